import { Tape } from '../../src/autograd/index.js';
import { ssd, type SsdOptions } from '../../src/ops/ssd/ssd.js';
import { scope, tensor, type Backend, type Tensor } from '../../src/tensor/index.js';
import { Random } from '../../src/util/random.js';
import type { Host } from './scan-support.js';

/** Inputs of `ssd` by name (x, delta, A, B, C, D, z, deltaBias, initialState, sequenceStarts) and cotangents (dy, dFinalState). */
export type SsdData = Readonly<Record<string, Host>>;

/** Results and gradients by name: y, finalState, and d<input>. */
export type SsdResults = Record<string, Float64Array>;

/** Names of inputs with an axis of positions, the second. */
const sequences = ['x', 'delta', 'B', 'C', 'z', 'dy', 'sequenceStarts'];

interface Sizes {
  readonly B: number;
  readonly L: number;
  readonly H: number;
  readonly P: number;
  readonly G: number;
  readonly N: number;
}

/** Random inputs and cotangents with everything given but document starts. */
export function randomSsd({ B, L, H, P, G, N }: Sizes): SsdData {
  const random = new Random(B + 10 * L + 100 * H + N);
  const normal = (shape: number[], scale = 1, shift = 0): Host => ({
    shape,
    values: Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => shift + scale * random.normal()),
  });
  return {
    x: normal([B, L, H * P]),
    delta: normal([B, L, H], 1, -1),
    A: { shape: [H], values: Float32Array.from({ length: H }, () => -Math.exp(random.normal())) },
    B: normal([B, L, G * N]),
    C: normal([B, L, G * N]),
    D: normal([H]),
    z: normal([B, L, H * P]),
    deltaBias: normal([H], 0.3),
    initialState: normal([B, H, P, N]),
    dy: normal([B, L, H * P]),
    dFinalState: normal([B, H, P, N]),
  };
}

/** Document starts at some positions of every row. */
export const startsAt = (B: number, L: number, starts: readonly number[]): Host => ({
  shape: [B, L],
  values: Int32Array.from({ length: B * L }, (_, i) => Number(starts.includes(i % L))),
});

/** The data less some of its parts. */
export const without = (data: SsdData, ...parts: readonly string[]): SsdData =>
  Object.fromEntries(Object.entries(data).filter(([name]) => !parts.includes(name)));

type Operands = Record<'x' | 'delta' | 'A' | 'B' | 'C', Tensor> & Record<string, Tensor>;

const tensorsOf = (backend: Backend, data: SsdData) =>
  Object.fromEntries(
    Object.entries(data).map(([name, { values, shape }]) => [name, tensor(backend, values, shape, name === 'sequenceStarts' ? 'i32' : 'f32')]),
  ) as Operands;

async function valuesOf(made: Readonly<Record<string, Tensor>>): Promise<SsdResults> {
  const values: SsdResults = {};
  for (const [name, result] of Object.entries(made)) {
    values[name] = await result.exactData();
    result.dispose();
  }
  return values;
}

/** Runs the operation and its gradient; every input of the data takes part. */
export async function runSsd(backend: Backend, data: SsdData, options: SsdOptions): Promise<SsdResults> {
  const made = scope((): Record<string, Tensor> => {
    const { x, delta, A, B, C, dy, dFinalState, sequenceStarts, ...more } = tensorsOf(backend, data);
    const by = { x, delta, A, B, C, ...more };
    const tape = new Tape(Object.values(by));
    const results = tape.run(() => ssd(x, delta, A, B, C, { ...options, sequenceStarts, ...more }));
    const gradients = tape.backward([results.y, results.finalState], [dy as Tensor, dFinalState as Tensor], Object.values(by));
    return { ...results, ...Object.fromEntries(Object.keys(by).map((name, i) => [`d${name}`, gradients[i] as Tensor])) };
  });
  return valuesOf(made);
}

/** Runs the operation alone, with nothing recorded. */
export async function forwardSsd(backend: Backend, data: SsdData, options: SsdOptions): Promise<SsdResults> {
  const made = scope(() => {
    const { x, delta, A, B, C, ...more } = tensorsOf(backend, data);
    return { ...ssd(x, delta, A, B, C, { ...options, ...more }) };
  });
  return valuesOf(made);
}

/** Positions [from, to) of everything that has positions. */
export function cut(data: SsdData, from: number, to: number): SsdData {
  return Object.fromEntries(
    Object.entries(data).map(([name, { shape, values }]) => {
      if (!sequences.includes(name)) return [name, { shape, values }];
      const [B = 0, L = 0, ...rest] = shape;
      const width = rest[0] ?? 1;
      const rows = Array.from({ length: B }, (_, b) => Array.from(values).slice((b * L + from) * width, (b * L + to) * width));
      return [name, { shape: [B, to - from, ...rest], values: rows.flat() }];
    }),
  );
}
