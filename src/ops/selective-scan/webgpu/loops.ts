/** Code for steps whose values lie in registers: written out with numbers for indices, or in loops with names for them. */
import { repeat } from '../../../wgsl/vectors.js';

/** A step's index: a number where the loop over it is unrolled. */
export type Index = number | string;

/** `index + more`. */
export const plus = (index: Index, more: number): Index => (typeof index === 'number' ? index + more : `(${index} + ${more})`);

/** `from − index·step`. */
export const minus = (from: number, index: Index, step: number): Index =>
  typeof index === 'number' ? from - index * step : `(${from} - ${index} * ${step})`;

/** `a + b`. */
export const sum = (a: Index, b: Index): Index =>
  typeof a === 'number' && typeof b === 'number' ? a + b : `(${String(a)} + ${String(b)})`;

/** Runs `body` for each of 0 … count − 1. */
export const loop = (unrolled: boolean, name: string, count: number, body: (at: Index) => string): string =>
  unrolled ? repeat(count, body) : `for (var ${name} = 0u; ${name} < ${count}; ${name}++) { ${body(name)} }`;
