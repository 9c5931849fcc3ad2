import type { Tensor } from '../../tensor/index.js';
import type { Random } from '../../util/random.js';
import { normal, uniform, type CaseInput, type OperationCase } from '../cases.js';
import { split } from '../view/view.js';
import { ssd, type SsdOptions } from './ssd.js';
import { ssdStep } from './ssd-step.js';

/** What a case leaves out is absent from the call. */
interface Setting {
  readonly B?: number;
  readonly L?: number;
  readonly H?: number;
  readonly P?: number;
  readonly G?: number;
  readonly N?: number;
  readonly D?: 'head' | 'feature';
  readonly z?: boolean;
  readonly bias?: boolean;
  readonly softplus?: boolean;
  readonly limits?: readonly [number, number];
  readonly initial?: boolean;
  /** Positions where documents start, the same in every row of the batch but shifted by its number. */
  readonly starts?: readonly number[];
  readonly chunk?: number;
  /** Range of delta, and of A. */
  readonly delta?: readonly [number, number];
  readonly A?: readonly [number, number];
  /** Which results to differentiate through. */
  readonly results?: 'both' | 'y' | 'finalState';
}

const sizesOf = ({ B = 1, L = 5, H = 2, P = 3, G = 1, N = 4 }: Setting) => ({ B, L, H, P, G, N });

/** As a model makes them: z stands in front of the parts of one convolution's output, and delta behind. */
function inputsOf(random: Random, s: Setting, steps: readonly number[]): Record<string, CaseInput> {
  const { H, P, G, N } = sizesOf(s);
  return {
    zxBC: normal(random, [...steps, (s.z === true ? 2 : 1) * H * P + 2 * G * N]),
    delta: uniform(random, [...steps, H + 1], ...(s.delta ?? ([0.01, 0.5] as const))),
    A: uniform(random, [H], ...(s.A ?? ([-2, -0.1] as const))),
    ...(s.D === undefined ? {} : { D: normal(random, [s.D === 'head' ? H : H * P]) }),
    ...(s.bias === true ? { deltaBias: normal(random, [H], 0.5) } : {}),
  };
}

function argumentsOf(input: (name: string) => Tensor, s: Setting) {
  const { H, P, G, N } = sizesOf(s);
  const parts = split(input('zxBC'), [...(s.z === true ? [H * P] : []), H * P, G * N, G * N]);
  const [x, B, C] = parts.slice(-3) as [Tensor, Tensor, Tensor];
  const options: SsdOptions = {
    groups: G,
    z: s.z === true ? (parts[0] ?? null) : null,
    D: s.D === undefined ? null : input('D'),
    deltaBias: s.bias === true ? input('deltaBias') : null,
    deltaSoftplus: s.softplus,
    deltaLimits: s.limits,
  };
  return { x, delta: split(input('delta'), [H, 1])[0] as Tensor, A: input('A'), B, C, options };
}

function startsInput(B: number, L: number, starts: readonly number[]): CaseInput {
  const values = new Int32Array(B * L);
  for (let b = 0; b < B; b++) for (const start of starts) values[b * L + Math.min(start + b, L - 1)] = 1;
  return { shape: [B, L], dtype: 'i32', values };
}

const describe = (s: Setting): string => Object.entries(sizesOf(s)).map(([name, size]) => `${name} ${size}`).join(', ');

function ssdCase(name: string, s: Setting): OperationCase {
  const { B, L, H, P, N } = sizesOf(s);
  const { results = 'both' } = s;
  return {
    name: `${name}: ${describe(s)}`,
    inputs: (random) => ({
      ...inputsOf(random, s, [B, L]),
      ...(s.initial === true ? { initialState: normal(random, [B, H, P, N]) } : {}),
      ...(s.starts === undefined ? {} : { sequenceStarts: startsInput(B, L, s.starts) }),
    }),
    run(input) {
      const { x, delta, A, B: weights, C, options } = argumentsOf(input, s);
      const { y, finalState } = ssd(x, delta, A, weights, C, {
        ...options,
        initialState: s.initial === true ? input('initialState') : null,
        sequenceStarts: s.starts === undefined ? null : input('sequenceStarts'),
        chunk: s.chunk,
      });
      return results === 'both' ? [y, finalState] : results === 'y' ? [y] : [finalState];
    },
    reductionLength: Math.max(B * L, H * P, N, 16),
    half: ['zxBC', 'delta'],
    large: B * L * H * P * N > 4000,
  };
}

function stepCase(name: string, s: Setting): OperationCase {
  const { B, H, P, N } = sizesOf({ B: 2, ...s });
  return {
    name: `step, ${name}: ${describe({ ...s, B, L: 1 })}`,
    inputs: (random) => ({ state: normal(random, [B, H, P, N]), ...inputsOf(random, s, [B]) }),
    run(input) {
      const { x, delta, A, B: weights, C, options } = argumentsOf(input, s);
      const state = input('state');
      return [ssdStep(state, x, delta, A, weights, C, options), state.retain()];
    },
    differentiable: [],
    reductionLength: N,
    half: ['zxBC', 'delta'],
    large: B * H * P * N > 4000,
  };
}

const full = { D: 'head', z: true, bias: true, softplus: true } as const;
const packed = { starts: [0, 1, 5, 6, 40, 64, 70, 128], initial: true, ...full } as const;

export const cases: readonly OperationCase[] = [
  ssdCase('plain', {}),
  ssdCase('D by head', { D: 'head' }),
  ssdCase('D by feature', { D: 'feature' }),
  ssdCase('z', { z: true }),
  ssdCase('delta bias', { bias: true }),
  ssdCase('softplus', { softplus: true, delta: [-6, 25] }),
  ssdCase('limits', { limits: [0.1, 0.4] }),
  ssdCase('softplus and limits', { softplus: true, bias: true, delta: [-3, 3], limits: [0.1, 1], L: 9 }),
  ssdCase('initial state', { initial: true }),
  ssdCase('groups', { H: 4, G: 2, initial: true }),
  ssdCase('everything', { ...full, initial: true, B: 2, L: 7, H: 4, G: 2, limits: [0.1, 2] }),
  ssdCase('through y alone', { ...full, initial: true, results: 'y' }),
  ssdCase('through the final state alone', { ...full, initial: true, results: 'finalState' }),
  ssdCase('documents', { ...packed, B: 2, L: 9 }),
  ssdCase('every position starts a document', { starts: [0, 1, 2, 3, 4], initial: true }),
  ssdCase('growing states', { A: [-0.5, 0.5], initial: true, L: 9 }),
  ssdCase('negative steps', { delta: [-0.5, 0.5], initial: true, L: 9 }),
  ssdCase('ΔA down to −100', { delta: [1, 10], A: [-10, -1], initial: true }),
  ssdCase('ΔA down to −1000', { delta: [1, 10], A: [-100, -1] }),
  ssdCase('tiny steps', { delta: [1e-8, 1e-5], initial: true, L: 9 }),
  ssdCase('long sums of ΔA', { delta: [0.5, 1], A: [-20, -10], initial: true, L: 70, N: 16 }),
  ...[1, 2, 3, 7, 64].map((chunk) => ssdCase(`chunks of ${chunk}`, { ...packed, starts: [3], B: 2, L: 9, chunk })),
  ...[1, 33, 130, 256].map((chunk) => ssdCase(`chunks of ${chunk}`, { ...packed, B: 1, L: 300, H: 4, P: 5, G: 2, N: 7, chunk })),
  ...[1, 5, 16, 24, 37, 64, 65, 130].map((P) => ssdCase('sizes of a head', { ...full, P, B: 2, L: 3 })),
  ...[1, 3, 8, 16, 20, 65, 512].map((N) => ssdCase('states', { ...full, initial: true, N, P: 5, L: 4 })),
  ...[1, 63, 64, 65, 200].map((L) => ssdCase('lengths', { ...full, initial: true, L, N: 2, B: 2 })),
  ssdCase('many heads', { ...full, D: 'feature', initial: true, H: 34, G: 2, P: 4, N: 6, L: 20 }),
  ssdCase('model', { ...full, initial: true, L: 70, H: 2, P: 64, N: 128 }),
  // What matrix units take, in f16 and without a gate.
  ssdCase('matrices', { D: 'head', bias: true, softplus: true, B: 2, L: 100, H: 4, G: 2, P: 16, N: 16 }),
  ssdCase('matrices', { D: 'feature', initial: true, starts: [0, 37, 64, 100, 192], L: 330, H: 2, P: 80, N: 48 }),
  ssdCase('matrices', { D: 'head', initial: true, delta: [0.5, 1], A: [-20, -10], L: 300, H: 2, P: 64, N: 128 }),
  ssdCase('matrices', { delta: [0.001, 0.05], A: [-1, -0.5], L: 520, H: 3, P: 64, N: 128 }),
  ssdCase('matrices', { D: 'head', initial: true, B: 2, L: 190, H: 2, P: 32, N: 144, chunk: 64 }),
  ssdCase('documents', { ...packed, B: 2, L: 150, H: 4, G: 2, P: 20, N: 19 }),
  stepCase('plain', {}),
  stepCase('everything', { ...full, H: 4, G: 2, limits: [0.1, 2] }),
  stepCase('D by feature', { ...full, D: 'feature', P: 37, N: 20 }),
  stepCase('one state', { ...full, B: 1, P: 16, N: 1 }),
  stepCase('model', { ...full, B: 2, H: 6, P: 64, N: 128 }),
];
