import type { Tensor } from '../../tensor/index.js';
import type { Random } from '../../util/random.js';
import { normal, type CaseInput, type OperationCase } from '../cases.js';
import { split } from '../view/view.js';
import type { ConvActivation } from './arguments.js';
import { causalConv1d } from './causal-conv1d.js';
import { causalConv1dStep } from './step.js';

interface Setting {
  readonly batch?: number;
  readonly length: number;
  readonly channels: number;
  readonly taps: number;
  readonly activation?: ConvActivation;
  readonly bias?: boolean;
  readonly state?: boolean;
  /** Positions of each sequence at which a document starts. */
  readonly starts?: readonly (readonly number[])[];
}

function inputsOf({ batch = 2, length, channels, taps, bias, state, starts }: Setting, random: Random): Record<string, CaseInput> {
  const marks = new Int32Array(batch * length);
  // Any nonzero number marks a start.
  starts?.forEach((positions, b) => positions.forEach((t, i) => (marks[b * length + t] = i === 1 ? -7 : 1)));
  return {
    x: normal(random, [batch, length, channels]),
    weight: normal(random, [channels, taps]),
    ...(bias ? { bias: normal(random, [channels]) } : {}),
    ...(state ? { state: normal(random, [batch, taps - 1, channels]) } : {}),
    ...(starts ? { starts: { shape: [batch, length], dtype: 'i32', values: marks } } : {}),
  };
}

function conv(name: string, setting: Setting): OperationCase {
  const { batch = 2, length, channels, taps, activation, bias, state, starts } = setting;
  return {
    name,
    inputs: (random) => inputsOf(setting, random),
    run(input) {
      const { y, finalState } = causalConv1d(input('x'), input('weight'), {
        bias: bias ? input('bias') : null,
        activation,
        initialState: state ? input('state') : null,
        sequenceStarts: starts ? input('starts') : null,
      });
      return [y, finalState];
    },
    reductionLength: Math.max(taps, batch * length),
    half: ['x'],
    large: batch * length * channels > 3000,
  };
}

export const cases: readonly OperationCase[] = [
  ...[1, 2, 3, 4, 7].flatMap((taps) => [
    conv(`K = ${taps}`, { length: 21, channels: 19, taps }),
    conv(`K = ${taps}, bias, silu, state`, { length: 21, channels: 19, taps, bias: true, activation: 'silu', state: taps > 1 }),
  ]),
  ...[1, 2, 3, 4, 5, 8, 63, 64, 65].map((length) =>
    conv(`L = ${length}`, { length, channels: 5, taps: 4, bias: true, activation: 'silu', state: true }),
  ),
  conv('L = 2 below K − 1 = 6', { length: 2, channels: 3, taps: 7, state: true }),
  conv('L = 1000 in chunks', { batch: 1, length: 1000, channels: 20, taps: 4, bias: true, activation: 'silu', state: true }),
  conv('K longer than a chunk', { batch: 2, length: 130, channels: 3, taps: 100, bias: true, state: true }),
  ...[1, 15, 16, 17, 40, 1050].map((channels) =>
    conv(`E = ${channels}`, { length: 18, channels, taps: 4, bias: true, activation: 'silu', state: true }),
  ),
  conv('many short sequences', { batch: 150, length: 3, channels: 9, taps: 4, bias: true, activation: 'silu', state: true }),
  ...[1, 2, 3, 4, 7].map((taps) =>
    conv(`documents, K = ${taps}`, {
      length: 41,
      channels: 17,
      taps,
      bias: true,
      activation: 'silu',
      state: taps > 1,
      starts: [[0, 1, 5, 7, 8, 24, 38, 40], [2, 16, 39]],
    }),
  ),
  conv('documents in chunks', {
    batch: 2,
    length: 200,
    channels: 6,
    taps: 4,
    activation: 'silu',
    state: true,
    starts: [[62, 64, 65, 100, 127, 128, 129], [1, 63, 103, 104, 105, 198]],
  }),
  conv('documents shorter than K − 1, no state', { length: 9, channels: 4, taps: 7, starts: [[0, 2, 4, 6, 8], [3, 4, 5]] }),
  conv('a start cuts off the initial state from the final one', { length: 2, channels: 4, taps: 7, state: true, starts: [[1], [0]] }),
  {
    name: 'operands with gaps between their rows, cotangents too',
    inputs: (random) => ({ both: normal(random, [2, 12, 42]), weight: normal(random, [21, 4]), states: normal(random, [2, 3, 42]) }),
    run(input) {
      const [x] = split(input('both'), [21, 21]) as [Tensor];
      const [, initialState] = split(input('states'), [21, 21]) as [Tensor, Tensor];
      const { y, finalState } = causalConv1d(x, input('weight'), { initialState, activation: 'silu' });
      return [...split(y, [4, 17]), ...split(finalState, [17, 4])];
    },
    reductionLength: 24,
    half: ['both'],
  },
  {
    name: 'large sums through silu',
    inputs: (random) => ({ x: normal(random, [1, 30, 18], 100), weight: normal(random, [18, 4], 3) }),
    run: (input) => [causalConv1d(input('x'), input('weight'), { activation: 'silu' }).y],
    reductionLength: 30,
  },
  {
    name: 'only the final state is used',
    inputs: (random) => ({ x: normal(random, [2, 2, 6]), weight: normal(random, [6, 4]), state: normal(random, [2, 3, 6]) }),
    run: (input) => [causalConv1d(input('x'), input('weight'), { initialState: input('state') }).finalState],
  },
  ...['weight', 'state', 'x'].map((name): OperationCase => ({
    ...conv(`only the gradient of ${name}`, { length: 20, channels: 6, taps: 4, state: true, activation: 'silu' }),
    differentiable: [name],
  })),
  ...[1, 4, 7, 20].flatMap((taps) =>
    [1, 3].map((batch): OperationCase => ({
      name: `step, K = ${taps}, B = ${batch}`,
      inputs: (random) => ({
        state: normal(random, [batch, taps - 1, 37]),
        x: normal(random, [batch, 37]),
        weight: normal(random, [37, taps]),
        bias: normal(random, [37]),
      }),
      run(input) {
        const options = { bias: input('bias'), activation: 'silu' } as const;
        const first = causalConv1dStep(input('state'), input('x'), input('weight'), options);
        const second = causalConv1dStep(input('state'), first, input('weight'), options);
        return [first, second, input('state')];
      },
      differentiable: [],
      reductionLength: taps,
      half: ['x'],
    })),
  ),
];
