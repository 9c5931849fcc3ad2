import { Tape } from '../../src/autograd/index.js';
import { selectiveScan, type SelectiveScanOptions } from '../../src/ops/selective-scan/selective-scan.js';
import { scope, tensor, type Backend, type Tensor } from '../../src/tensor/index.js';
import { Random } from '../../src/util/random.js';

/** A dense array on the host. */
export interface Host {
  readonly shape: readonly number[];
  readonly values: ArrayLike<number>;
}

/** Inputs of a scan by name (u, delta, A, B, C, D, z, deltaBias, initialState, sequenceStarts) and cotangents (dy, dFinalState). */
export type ScanData = Readonly<Record<string, Host>>;

/** Results and gradients of a scan by name: y, finalState, and d<input>. */
export type ScanResults = Record<string, Float64Array>;

/** Names of inputs with an axis of positions, the second. */
const sequences = ['u', 'delta', 'B', 'C', 'z', 'dy', 'sequenceStarts'];

/** Random inputs and cotangents of a gated scan. */
export function randomScan(B: number, L: number, E: number, N: number, starts?: readonly number[]): ScanData {
  const random = new Random(B + 10 * L + 100 * E + N);
  const normal = (shape: number[], scale = 1, shift = 0): Host => ({
    shape,
    values: Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => shift + scale * random.normal()),
  });
  const A = normal([E, N]);
  return {
    u: normal([B, L, E]),
    delta: normal([B, L, E], 1, -2),
    A: { ...A, values: Float32Array.from(A.values, (x) => -Math.exp(x)) },
    B: normal([B, L, N]),
    C: normal([B, L, N]),
    D: normal([E]),
    z: normal([B, L, E]),
    deltaBias: normal([E], 0.3),
    initialState: normal([B, E, N]),
    dy: normal([B, L, E]),
    dFinalState: normal([B, E, N]),
    ...(starts && { sequenceStarts: { shape: [B, L], values: Int32Array.from({ length: B * L }, (_, i) => Number(starts.includes(i % L))) } }),
  };
}

/** Runs the scan and its gradient; every input of the data takes part. */
export async function runScan(backend: Backend, data: ScanData, options: SelectiveScanOptions = {}): Promise<ScanResults> {
  const made = scope(() => {
    const tensors = Object.fromEntries(
      Object.entries(data).map(([name, { values, shape }]) => [name, tensor(backend, values, shape, name === 'sequenceStarts' ? 'i32' : 'f32')]),
    ) as Record<string, Tensor>;
    const { u, delta, A, B, C, dy, dFinalState, sequenceStarts, ...more } = tensors as Record<'u' | 'delta' | 'A' | 'B' | 'C' | 'dy' | 'dFinalState', Tensor>
      & Record<string, Tensor>;
    const by = { u, delta, A, B, C, ...more };
    const tape = new Tape(Object.values(by));
    const results = tape.run(() => selectiveScan(u, delta, A, B, C, { deltaSoftplus: true, ...options, sequenceStarts, ...more }));
    const gradients = tape.backward([results.y, results.finalState], [dy, dFinalState], Object.values(by));
    return { ...results, ...Object.fromEntries(Object.keys(by).map((name, i) => [`d${name}`, gradients[i] as Tensor])) };
  });
  const values: ScanResults = {};
  for (const [name, result] of Object.entries<Tensor>(made)) {
    values[name] = await result.exactData();
    result.dispose();
  }
  return values;
}

/** Positions [from, to) of everything that has positions. */
export function cutScan(data: ScanData, from: number, to: number): ScanData {
  return mapSequences(data, ({ shape: [B = 0, L = 0, width = 1], values }, rank) => ({
    shape: rank === 2 ? [B, to - from] : [B, to - from, width],
    values: Array.from({ length: B }, (_, b) => Array.from(values).slice((b * L + from) * width, (b * L + to) * width)).flat(),
  }));
}

/** Everything that has positions, the last position first. */
export function flipScan(data: ScanData): ScanData {
  return mapSequences(data, ({ shape, values }) => ({ shape, values: flip(values, shape) }));
}

/** A [B,L,…] array with the last position first. */
export function flip(values: ArrayLike<number>, [B = 0, L = 0, width = 1]: readonly number[]): number[] {
  return Array.from({ length: B * L * width }, (_, i) => {
    const row = Math.floor(i / width);
    const b = Math.floor(row / L);
    return values[(b * L + (L - 1 - (row % L))) * width + (i % width)] ?? NaN;
  });
}

function mapSequences(data: ScanData, change: (host: Host, rank: number) => Host): ScanData {
  return Object.fromEntries(
    Object.entries(data).map(([name, host]) => [name, sequences.includes(name) ? change(host, host.shape.length) : host]),
  );
}

/** Joins results of pieces of a sequence along the positions (B = 1), for the names that have them. */
export function joinPositions(pieces: readonly ScanResults[]): Record<string, number[]> {
  const names = ['y', 'du', 'ddelta', 'dB', 'dC', 'dz'];
  return Object.fromEntries(names.map((name) => [name, pieces.flatMap((piece) => Array.from(piece[name] ?? []))]));
}

/** Element by element sum of the pieces' results `name`. */
export function addUp(pieces: readonly ScanResults[], name: string): number[] {
  const first = Array.from(pieces[0]?.[name] ?? []);
  return first.map((_, i) => pieces.reduce((sum, piece) => sum + (piece[name]?.[i] ?? NaN), 0));
}
