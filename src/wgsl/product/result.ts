/** Where kernels of products put their sums. */
import type { DType, GpuBinding, GpuDispatch } from '../../tensor/index.js';
import { perElement } from '../per-element.js';
import { gather, saturated, vectorOf } from '../vectors.js';

/** The result matrix in memory, and what is added to it. Names of numbers are WGSL expressions. */
export interface Result {
  readonly name: string;
  readonly dtype: DType | undefined;
  readonly pitch: string;
  readonly stride: string;
  readonly lanes: 1 | 4;
  readonly bias: boolean;
  readonly accumulate: boolean;
  /** Whether halves hold ±65504 in place of what is beyond them. */
  readonly saturate: boolean;
  /** The row after the last; default p.m. */
  readonly rows?: string;
}

/** How sums reach memory: directly, or as parts that another dispatch adds up. */
export interface Store {
  readonly buffers: readonly (string | GpuBinding)[];
  readonly variant: string;
  /** `fn store(split, batch, row, column, v: vec4<f32>)`: four sums of a row, from a multiple of 4 on. */
  readonly code: string;
  /**
   * Where whole 16×16 matrices of sums lie: WGSL expressions over split, batch, row and column. With `asTheyAre` storing them there is
   * all there is to do; otherwise code that does is valid, and must not run.
   */
  readonly whole: { readonly name: string; readonly at: string; readonly pitch: string; readonly rows: string; readonly asTheyAre: boolean } | null;
}

const letters = ['x', 'y', 'z', 'w'] as const;

/** Stores into the result itself. */
export function storeResult({ name, dtype = 'f32', pitch, stride, lanes, bias, accumulate, saturate, rows = 'p.m' }: Result): Store {
  const type = lanes === 4 ? `vec4<${dtype}>` : dtype;
  const converted = (of: 1 | 4, value: string) => (saturate ? saturated(of, dtype, value) : `${vectorOf(of, dtype)}(${value})`);
  const added = bias
    ? letters.map((letter, i) => `if (column + ${i}u < p.n) { v.${letter} += bias[p.bias_at + column + ${i}u]; }`).join('\n    ')
    : '';
  const put =
    lanes === 4
      ? `if (column >= p.n) { return; }
    let to = p.${name}_at + at / 4u;
    let all = ${accumulate ? `vec4<f32>(${name}[to]) + ` : ''}v;
    ${name}[to] = ${converted(4, 'all')};`
      : letters
          .map((letter, i) => {
            const to = `${name}[p.${name}_at + at + ${i}u]`;
            return `if (column + ${i}u < p.n) { let all = ${accumulate ? `f32(${to}) + ` : ''}v.${letter}; ${to} = ${converted(1, 'all')}; }`;
          })
          .join('\n    ');
  const code = `
  fn store(split: u32, batch: u32, row: u32, column: u32, sums: vec4<f32>) {
    if (row >= ${rows}) { return; }
    var v = sums;
    ${added}
    let at = batch * ${stride} + row * ${pitch} + column;
    ${put}
  }`;
  return {
    buffers: [{ name, as: type }, ...(bias ? ['bias'] : [])],
    variant: `${bias ? 'b' : ''}${accumulate ? '+' : ''}${saturate ? 's' : ''}`,
    code,
    whole:
      dtype === 'f32' || lanes === 4
        ? {
            ...{ name, at: `p.${name}_at + (batch * ${stride} + row * ${pitch} + column) / ${lanes}u`, pitch: `${pitch} / ${lanes}u`, rows },
            asTheyAre: dtype === 'f32' && !bias && !accumulate,
          }
        : null,
  };
}

/** Stores into scratch `parts` [split, batch, m, n]. */
export const storeParts: Store = {
  buffers: ['parts'],
  variant: 'parts',
  code: `
  fn store(split: u32, batch: u32, row: u32, column: u32, v: vec4<f32>) {
    if (row >= p.m) { return; }
    let at = p.parts_at + ((split * p.batches + batch) * p.m + row) * p.n + column;
    ${letters.map((letter, i) => `if (column + ${i}u < p.n) { parts[at + ${i}u] = v.${letter}; }`).join('\n    ')}
  }`,
  whole: { name: 'parts', at: 'p.parts_at + ((split * p.batches + batch) * p.m + row) * p.n + column', pitch: 'p.n', rows: 'p.m', asTheyAre: true },
};

/** Adds up the parts, in order. */
export function addParts(result: Result, { m, n, batch }: { m: number; n: number; batch: number }, splits: number): GpuDispatch {
  const { name, dtype = 'f32', pitch, stride, lanes, bias, accumulate, saturate } = result;
  const type = vectorOf(lanes, 'f32');
  const each = `${lanes}u`;
  const biases = gather(lanes, (lane) => `bias[p.bias_at + column + ${lane}u]`);
  return perElement({
    variant: `add parts${bias ? ' b' : ''}${accumulate ? ' +' : ''}${saturate ? ' s' : ''}`,
    count: (batch * m * n) / lanes,
    buffers: [{ name: 'parts', as: type, access: 'read' }, { name, as: vectorOf(lanes, dtype) }, ...(bias ? ['bias'] : [])],
    numbers: { splits },
    body: `
      let column = i * ${each} % p.n;
      let row = i * ${each} / p.n;
      var sum = ${type}();
      for (var split = 0u; split < p.splits; split++) { sum += parts[p.parts_at + split * p.elements + i]; }
      ${bias ? `sum += ${biases};` : ''}
      let at = p.${name}_at + ((row / p.m) * ${stride} + (row % p.m) * ${pitch} + column) / ${each};
      let all = ${accumulate ? `${type}(${name}[at]) + ` : ''}sum;
      ${name}[at] = ${saturate ? saturated(lanes, dtype, 'all') : `${vectorOf(lanes, dtype)}(all)`};`,
  });
}
