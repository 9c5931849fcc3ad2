import type { Tensor } from '../../tensor/index.js';
import type { Random } from '../../util/random.js';
import { normal, uniform, type CaseInput, type OperationCase } from '../cases.js';
import { split } from '../view/view.js';
import { selectiveScan, type SelectiveScanOptions } from './selective-scan.js';
import { selectiveScanStep } from './selective-scan-step.js';

/** What a case leaves out is absent from the call. */
interface Setting {
  readonly B?: number;
  readonly L?: number;
  readonly E?: number;
  readonly N?: number;
  readonly D?: boolean;
  readonly z?: boolean;
  readonly bias?: boolean;
  readonly softplus?: boolean;
  readonly initial?: boolean;
  /** Positions where documents start, the same in every row of the batch but shifted by its number. */
  readonly starts?: readonly number[];
  readonly reverse?: boolean;
  readonly zoh?: boolean;
  /** Range of delta, and of A. */
  readonly delta?: readonly [number, number];
  readonly A?: readonly [number, number];
  /** Which results to differentiate through. */
  readonly results?: 'both' | 'y' | 'finalState';
}

function scanInputs(random: Random, s: Setting): Record<string, CaseInput> {
  const { B = 1, L = 5, E = 5, N = 4 } = s;
  return {
    // As a model makes them: u and z are halves of one projection, and the low-rank delta, B and C parts of another.
    uz: normal(random, [B, L, s.z === true ? 2 * E : E]),
    delta: uniform(random, [B, L, E], ...(s.delta ?? ([0.01, 0.5] as const))),
    A: uniform(random, [E, N], ...(s.A ?? ([-2, -0.1] as const))),
    BC: normal(random, [B, L, 2 * N + 3]),
    ...(s.D === true ? { D: normal(random, [E]) } : {}),
    ...(s.bias === true ? { deltaBias: normal(random, [E], 0.5) } : {}),
    ...(s.initial === true ? { initialState: normal(random, [B, E, N]) } : {}),
    ...(s.starts === undefined ? {} : { sequenceStarts: startsInput(B, L, s.starts) }),
  };
}

function startsInput(B: number, L: number, starts: readonly number[]): CaseInput {
  const values = new Int32Array(B * L);
  for (let b = 0; b < B; b++) for (const start of starts) values[b * L + Math.min(start + b, L - 1)] = 1;
  return { shape: [B, L], dtype: 'i32', values };
}

function scanCase(name: string, s: Setting, more: Partial<OperationCase> = {}): OperationCase {
  const { B = 1, L = 5, E = 5, N = 4, results = 'both' } = s;
  return {
    name: `${name}: B ${B}, L ${L}, E ${E}, N ${N}`,
    inputs: (random) => scanInputs(random, s),
    run(input) {
      const [u, z] = s.z === true ? (split(input('uz'), [E, E]) as [Tensor, Tensor]) : [input('uz'), null];
      const [, Bt, Ct] = split(input('BC'), [3, N, N]) as [Tensor, Tensor, Tensor];
      const options: SelectiveScanOptions = {
        z,
        D: s.D === true ? input('D') : null,
        deltaBias: s.bias === true ? input('deltaBias') : null,
        deltaSoftplus: s.softplus,
        initialState: s.initial === true ? input('initialState') : null,
        sequenceStarts: s.starts === undefined ? null : input('sequenceStarts'),
        reverse: s.reverse,
        discretization: s.zoh === true ? 'zoh' : 'euler',
      };
      const { y, finalState } = selectiveScan(u, input('delta'), input('A'), Bt, Ct, options);
      return results === 'both' ? [y, finalState] : results === 'y' ? [y] : [finalState];
    },
    reductionLength: Math.max(B * L, E, N, 16),
    half: ['uz', 'delta', 'BC'],
    large: B * L * E * N > 4000,
    ...more,
  };
}

const full = { D: true, z: true, bias: true, softplus: true } as const;
const packed = { starts: [0, 1, 5, 6, 40, 64, 70, 128], initial: true, ...full } as const;

function stepCase(name: string, s: Setting): OperationCase {
  const { B = 2, E = 5, N = 4 } = s;
  return {
    name: `step, ${name}: B ${B}, E ${E}, N ${N}`,
    inputs: (random) => ({
      state: normal(random, [B, E, N]),
      uz: normal(random, [B, 2 * E]),
      delta: uniform(random, [B, E], ...(s.delta ?? ([0.01, 0.5] as const))),
      A: uniform(random, [E, N], -2, -0.1),
      BC: normal(random, [B, 2 * N + 3]),
      D: normal(random, [E]),
      deltaBias: normal(random, [E], 0.5),
    }),
    run(input) {
      const [u, z] = split(input('uz'), [E, E]) as [Tensor, Tensor];
      const [, Bt, Ct] = split(input('BC'), [3, N, N]) as [Tensor, Tensor, Tensor];
      const discretization = s.zoh === true ? 'zoh' : 'euler';
      const options = s.z === true ? { D: input('D'), z, deltaBias: input('deltaBias'), deltaSoftplus: true } : {};
      const state = input('state');
      return [selectiveScanStep(state, u, input('delta'), input('A'), Bt, Ct, { ...options, discretization }), state.retain()];
    },
    differentiable: [],
    reductionLength: N,
    half: ['uz', 'delta', 'BC'],
  };
}

export const cases: readonly OperationCase[] = [
  scanCase('plain', {}),
  scanCase('D', { D: true }),
  scanCase('z', { z: true }),
  scanCase('delta bias', { bias: true }),
  scanCase('softplus', { softplus: true, delta: [-6, 25] }),
  scanCase('initial state', { initial: true }),
  scanCase('everything', { ...full, initial: true, B: 2, L: 7 }),
  scanCase('through y alone', { ...full, initial: true, results: 'y' }),
  scanCase('through the final state alone', { ...full, initial: true, results: 'finalState' }),
  scanCase('documents', { ...packed, B: 2, L: 9 }),
  scanCase('every position starts a document', { starts: [0, 1, 2, 3, 4], initial: true }),
  scanCase('reverse', { reverse: true, initial: true, L: 7 }),
  scanCase('reverse, documents', { ...packed, reverse: true, B: 2, L: 9 }),
  scanCase('zero-order hold', { zoh: true, initial: true, L: 7 }),
  scanCase('zero-order hold, everything', { ...packed, zoh: true, reverse: true, B: 2, L: 9 }),
  scanCase('zero-order hold, ΔA around 0', { zoh: true, initial: true, delta: [1e-7, 2e-3], A: [-1e-3, 1e-3] }),
  scanCase('zero-order hold, ΔA around ±0.75', { zoh: true, initial: true, delta: [0.5, 1], A: [-1.2, 1.2] }),
  scanCase('growing states', { A: [-0.5, 0.5], initial: true, L: 9 }),
  scanCase('negative steps', { delta: [-0.5, 0.5], initial: true, L: 9 }),
  scanCase('ΔA down to −100', { delta: [1, 10], A: [-10, -1], initial: true }),
  scanCase('ΔA down to −1000', { delta: [1, 10], A: [-100, -1] }),
  scanCase('tiny steps', { delta: [1e-8, 1e-5], initial: true }),
  ...[1, 5, 16, 24, 37, 64, 130].map((E) => scanCase('channels', { ...full, E, B: 2, L: 3 })),
  ...[1, 3, 4, 8, 16, 20, 64].map((N) => scanCase('states', { ...full, initial: true, N, E: 17, L: 4 })),
  ...[1, 63, 64, 65, 200].map((L) => scanCase('lengths', { ...full, initial: true, L, E: 3, N: 2, B: 2 })),
  ...[false, true].flatMap((zoh) => [
    scanCase('long', { ...full, zoh, initial: true, L: 1000, E: 20, N: 5 }),
    scanCase('model', { ...full, zoh, initial: true, B: 3, L: 200, E: 130, N: 16 }),
    scanCase('documents', { ...packed, zoh, B: 3, L: 200, E: 37, N: 20 }),
    scanCase('reverse, documents', { ...packed, zoh, reverse: true, B: 2, L: 131, E: 24, N: 16 }),
  ]),
  scanCase('wide', { ...full, B: 1, L: 70, E: 1100, N: 4 }),
  stepCase('plain', {}),
  stepCase('everything', { z: true, E: 37, N: 16 }),
  stepCase('zero-order hold', { z: true, zoh: true, E: 130, N: 20 }),
  stepCase('one state', { z: true, zoh: true, B: 1, E: 16, N: 1 }),
  stepCase('model', { z: true, B: 3, E: 1536, N: 16 }),
];
