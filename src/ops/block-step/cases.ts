import { normal, uniform, type OperationCase } from '../cases.js';
import { blockStep } from './block-step.js';
import { ssdCases } from './ssd-cases.js';

/** [B, D, E, K, R, N] */
const extents = [
  [1, 3, 2, 2, 1, 3],
  [1, 8, 64, 4, 1, 16],
  [3, 32, 64, 2, 5, 16],
  [2, 776, 192, 4, 28, 16],
  [9, 40, 128, 4, 12, 16],
  // Whole matrices, of one group of sequences and a part of another.
  [18, 384, 128, 4, 16, 16],
  [1, 2056, 2112, 4, 19, 16],
] as const;

// A step moves its state in place: nothing here is differentiable.
const mambaCases: readonly OperationCase[] = extents.flatMap(([batch, width, channels, taps, rank, stateSize]) =>
  [true, false].map((parts): OperationCase => ({
    name: `[B,D,E,K,R,N] = [${[batch, width, channels, taps, rank, stateSize].join(',')}], two blocks, ${parts ? 'in parts, biases' : 'whole, no bias'}`,
    inputs: (random) => ({
      conv: normal(random, [batch, taps - 1, channels]),
      ssm: normal(random, [batch, channels, stateSize]),
      x: normal(random, parts ? [3, batch, width] : [batch, width]),
      norm: normal(random, [width], 0.1, 1),
      inProj: normal(random, [2 * channels, width], width ** -0.5),
      convWeight: normal(random, [channels, taps], 0.5),
      convBias: normal(random, [channels], 0.1),
      xProj: normal(random, [rank + 2 * stateSize, channels], channels ** -0.5),
      dtProj: normal(random, [channels, rank], rank ** -0.5),
      dtBias: uniform(random, [channels], -5, -1),
      A: uniform(random, [channels, stateSize], -16, -1),
      D: normal(random, [channels], 0.1, 1),
      outProj: normal(random, [width, channels], channels ** -0.5),
    }),
    run(input) {
      const state = { conv: input('conv'), ssm: input('ssm') };
      const weights = {
        ...{ norm: input('norm'), inProj: input('inProj'), convWeight: input('convWeight'), convBias: parts ? input('convBias') : null },
        ...{ xProj: input('xProj'), dtProj: input('dtProj'), dtBias: input('dtBias'), A: input('A'), D: input('D'), outProj: input('outProj') },
      };
      const first = blockStep(input('x'), state, weights, { parts });
      const second = blockStep(first.x, state, weights, { residual: first.residual });
      return [second.x, second.residual, state.conv, state.ssm];
    },
    differentiable: [],
    half: ['x', 'inProj', 'xProj', 'dtProj', 'outProj'],
    reductionLength: Math.max(width, channels),
  })),
);

export const cases: readonly OperationCase[] = [...mambaCases, ...ssdCases];
