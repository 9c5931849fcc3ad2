import { describe, expect, test } from 'vitest';
import { matrixFactor, type Factor } from '../../src/wgsl/product/factor.js';

/** The value of a WGSL expression of whole numbers, for sums, products and exact quotients of names and members of `p`. */
function evaluate(expression: string, names: Readonly<Record<string, number>>): number {
  const tokens = expression.match(/p\.\w+|\w+|[()+*/-]/g) ?? [];
  if (tokens.join('') !== expression.replaceAll(/\s/g, '')) throw new SyntaxError(expression);
  let next = 0;
  const primary = (): number => {
    const token = tokens[next++] ?? '';
    if (token === '(') {
      const value = sum();
      expect(tokens[next++]).toBe(')');
      return value;
    }
    const value = /^\d+u$/.test(token) ? Number.parseInt(token) : names[token];
    if (value === undefined) throw new SyntaxError(`${token} in ${expression}`);
    return value;
  };
  const chain = (operators: readonly string[], operand: () => number): number => {
    let value = operand();
    while (operators.includes(tokens[next] ?? '')) {
      const operator = tokens[next++];
      const right = operand();
      value = operator === '*' ? value * right : operator === '/' ? value / right : operator === '+' ? value + right : value - right;
    }
    return value;
  };
  const sum = (): number => chain(['+', '-'], () => chain(['*', '/'], primary));
  const value = sum();
  if (next !== tokens.length || !Number.isInteger(value)) throw new SyntaxError(`${expression} = ${value}`);
  return value;
}

const made = (along: 'depth' | 'outer', lanes: 4 | 8): Factor => {
  const names = { name: 'a', outer: 'p.m', depth: 'p.k', pitch: 'p.lda', stride: 'p.strideA' };
  return matrixFactor({ ...names, dtype: lanes === 8 ? 'f16' : 'f32', along, lanes, halves: false });
};

interface Matrix {
  readonly factor: Factor;
  readonly along: 'depth' | 'outer';
  readonly lanes: 4 | 8;
  readonly pitch: number;
  readonly stride: number;
}

const cases: [string, Matrix][] = (['depth', 'outer'] as const).flatMap((along) =>
  ([4, 8] as const).map((lanes): [string, Matrix] => [
    `along ${along} in vectors of ${lanes}`,
    { factor: made(along, lanes), along, lanes, pitch: 72, stride: 5000 },
  ]),
);

describe('where kernels on matrix units find the elements of a factor', () => {
  test.each(cases)('%s', (_, { factor: { whole, binding }, along, lanes, pitch, stride }) => {
    if (whole === null) throw new Error('the factor has no whole vectors');
    const [m, k, start] = [64, 48, 3];
    const p = { 'p.m': m, 'p.k': k, 'p.lda': pitch, 'p.strideA': stride, [`p.${binding.name}_at`]: start };
    for (const batch of [0, 2]) {
      for (const begin of [0, 16, 32]) {
        for (const [first, outer, depth] of [[0, 0, 0], [32, 8, 8], [16, 24, 0]] as const) {
          for (const at of [begin, begin + 8]) {
            // As gpu/matrix.ts asks: for the first of a thread's vectors, then for those further on in depth.
            const index = `${whole.at('batch', 'first_row + outer', 'begin + depth')} + (at - begin) * ${whole.step}`;
            const [row, column] = along === 'depth' ? [first + outer, at + depth] : [at + depth, first + outer];
            const names = { ...p, batch, begin, first_row: first, outer, depth, at };
            const expected = start * lanes + batch * stride + row * pitch + column;
            expect(evaluate(index, names)).toBe(expected);
            for (const [, read = ''] of whole.vector(index).matchAll(/\[([^\]]+)\]/g)) {
              expect(Math.floor(evaluate(read, names))).toBeOneOf(lanes === 8 ? [expected / 8] : [expected / 4, expected / 4 + 1]);
            }
          }
        }
      }
      // A row or column beyond the end takes the last that eight may start at.
      const last = evaluate(whole.last, p);
      expect(last).toBe(along === 'depth' ? m - 1 : m - 8);
    }
  });
});
