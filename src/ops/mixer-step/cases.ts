import { normal, uniform, type OperationCase } from '../cases.js';
import { mixerStep } from './mixer-step.js';

/** [B, E, K, R, N] */
const extents = [[1, 1, 1, 1, 1], [2, 5, 3, 3, 5], [3, 64, 4, 4, 16], [1, 1300, 4, 28, 16], [1, 300, 4, 19, 16], [2, 2100, 4, 12, 7]] as const;

// A step moves its state in place: nothing here is differentiable.
export const cases: readonly OperationCase[] = extents.flatMap(([batch, channels, taps, rank, stateSize]) =>
  [true, false].map((bias): OperationCase => ({
    name: `[B,E,K,R,N] = [${[batch, channels, taps, rank, stateSize].join(',')}], ${bias ? 'bias' : 'no bias'}, two steps`,
    inputs: (random) => ({
      conv: normal(random, [batch, taps - 1, channels]),
      ssm: normal(random, [batch, channels, stateSize]),
      xz: normal(random, [batch, 2 * channels]),
      convWeight: normal(random, [channels, taps], 0.5),
      convBias: normal(random, [channels], 0.1),
      xProj: normal(random, [rank + 2 * stateSize, channels], channels ** -0.5),
      dtProj: normal(random, [channels, rank], rank ** -0.5),
      dtBias: uniform(random, [channels], -5, -1),
      A: uniform(random, [channels, stateSize], -16, -1),
      D: normal(random, [channels], 0.1, 1),
    }),
    run(input) {
      const state = { conv: input('conv'), ssm: input('ssm') };
      const convBias = bias ? input('convBias') : null;
      const [convWeight, xProj, dtProj] = [input('convWeight'), input('xProj'), input('dtProj')];
      const weights = { convWeight, convBias, xProj, dtProj, dtBias: input('dtBias'), A: input('A'), D: input('D') };
      const first = mixerStep(input('xz'), state, weights);
      return [first, mixerStep(input('xz'), state, weights), state.conv, state.ssm];
    },
    differentiable: [],
    half: ['xz', 'xProj', 'dtProj'],
    reductionLength: channels,
  })),
);
