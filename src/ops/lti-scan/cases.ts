import type { Tensor } from '../../tensor/index.js';
import type { Random } from '../../util/random.js';
import { normal, uniform, type CaseInput, type OperationCase } from '../cases.js';
import { decays } from '../vandermonde/cases.js';
import { split } from '../view/view.js';
import { ltiScan } from './lti-scan.js';
import { ltiStep } from './lti-step.js';

interface Setting {
  readonly B: number;
  readonly L: number;
  readonly H: number;
  readonly N: number;
  readonly channels?: number;
  readonly rank?: number;
  readonly skip?: true;
  readonly state?: true;
  readonly starts?: true;
  readonly steps?: 'zoh' | 'bilinear';
  /** u as a part of a projection. */
  readonly gaps?: true;
}

/** Lengths below, at and beyond a chunk; states below, at and off the vectors' lengths. */
const settings: readonly Setting[] = [
  { B: 1, L: 1, H: 1, N: 1 },
  { B: 2, L: 7, H: 3, N: 5, channels: 2, skip: true, state: true, gaps: true },
  { B: 1, L: 64, H: 2, N: 8, state: true },
  { B: 2, L: 131, H: 3, N: 9, skip: true, starts: true, state: true },
  { B: 2, L: 9, H: 2, N: 7, rank: 1, skip: true, state: true, channels: 2 },
  { B: 2, L: 70, H: 2, N: 16, rank: 2, starts: true, state: true },
  { B: 1, L: 5, H: 2, N: 33, rank: 1 },
  { B: 2, L: 70, H: 2, N: 9, steps: 'zoh', state: true, skip: true },
  { B: 2, L: 13, H: 3, N: 4, steps: 'bilinear', starts: true, channels: 2 },
];

/** Ā − 1 of systems that decay. */
function changes(random: Random, shape: readonly number[]): CaseInput {
  const { values } = decays(random, shape);
  return {
    shape,
    values: Float32Array.from(values, (_, i) => {
      const [re = NaN, im = NaN] = [values[i - (i % 2)], values[i - (i % 2) + 1]];
      return i % 2 === 0 ? Math.exp(re) * Math.cos(im) - 1 : Math.exp(re) * Math.sin(im);
    }),
  };
}

const inputsOf = ({ B, L, H, N, channels = 1, rank = 0, skip, state, starts, steps, gaps }: Setting, random: Random): Record<string, CaseInput> => ({
  u: normal(random, [B, L, gaps ? 2 * H : H]),
  change: steps ? decays(random, [H, N, 2]) : changes(random, [H, N, 2]),
  input: normal(random, [H, N, 2]),
  C: normal(random, [channels, H, N, 2], N ** -0.5),
  ...(skip && { D: normal(random, [channels, H]) }),
  ...(rank > 0 && { left: normal(random, [rank, H, N, 2], 0.1 / N), right: normal(random, [rank, H, N, 2], 1) }),
  ...(state && { initialState: normal(random, [B, H, N, 2]) }),
  ...(starts && { sequenceStarts: { shape: [B, L], dtype: 'i32' as const, values: Int32Array.from({ length: B * L }, (_, i) => (i % 37 === 5 ? 1 : 0)) } }),
  ...(steps && { steps: uniform(random, [B, L], 0.2, 3) }),
});

const systemOf = ({ skip, rank = 0 }: Setting, input: (name: string) => Tensor) => ({
  ...{ change: input('change'), input: input('input'), C: input('C'), D: skip ? input('D') : null },
  ...(rank > 0 && { left: input('left'), right: input('right') }),
});

const title = (setting: Setting) => Object.entries(setting).map(([name, value]) => (value === true ? name : `${name} ${String(value)}`)).join(', ');

export const cases: readonly OperationCase[] = [
  ...settings.map((setting): OperationCase => {
    const { L, H, N, state, starts, steps, gaps } = setting;
    const differentiable = Object.keys({ u: 0, change: 0, input: 0, C: 0, ...(setting.skip && { D: 0 }), ...(setting.rank && { left: 0, right: 0 }), ...(state && { initialState: 0 }) });
    return {
      name: title(setting),
      inputs: (random) => inputsOf(setting, random),
      run(input) {
        const u = gaps ? (split(input('u'), [H, H])[1] as Tensor) : input('u');
        const { y, finalState } = ltiScan(u, systemOf(setting, input), {
          ...(state && { initialState: input('initialState') }),
          ...(starts && { sequenceStarts: input('sequenceStarts') }),
          ...(steps && { steps: input('steps'), discretization: steps }),
        });
        return [y, finalState];
      },
      differentiable,
      reductionLength: L * N,
      large: L * N > 500,
    };
  }),
  ...[
    { B: 3, L: 1, H: 5, N: 6, channels: 2, skip: true as const },
    { B: 2, L: 1, H: 3, N: 33, rank: 2 },
  ].map((setting): OperationCase => ({
    name: `step, ${title(setting)}`,
    inputs: (random) => ({ ...inputsOf({ ...setting, state: true }, random), u: normal(random, [setting.B, setting.H]) }),
    run(input) {
      const state = input('initialState');
      return [ltiStep(state, input('u'), systemOf(setting, input)), state.retain()];
    },
    differentiable: [],
    reductionLength: setting.N,
  })),
];
