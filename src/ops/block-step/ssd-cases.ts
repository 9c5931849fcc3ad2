import { normal, uniform, type OperationCase } from '../cases.js';
import { ssdBlockStep } from './ssd-block-step.js';

/** [B, D, H, P, G, N, K] */
const extents = [
  [1, 3, 2, 5, 1, 3, 2],
  [3, 24, 4, 16, 2, 16, 4],
  [1, 40, 1, 64, 1, 32, 3],
  [4, 72, 3, 64, 1, 128, 4],
  // Whole matrices, of one group of sequences and a part of another; the last one begins before its turn.
  [18, 384, 3, 128, 3, 16, 4],
  [2, 256, 4, 64, 2, 256, 4],
] as const;

// A step moves its state in place: nothing here is differentiable.
export const ssdCases: readonly OperationCase[] = extents.flatMap(([batch, width, heads, headSize, groups, stateSize, taps]) =>
  [true, false].map((everything): OperationCase => {
    const inner = heads * headSize;
    const channels = inner + 2 * groups * stateSize;
    return {
      name: `Mamba-2, [B,D,H,P,G,N,K] = [${[batch, width, heads, headSize, groups, stateSize, taps].join(',')}], two blocks, ${everything ? 'in parts, with a norm, biases and limits' : 'whole'}`,
      inputs: (random) => ({
        conv: normal(random, [batch, taps - 1, channels]),
        ssm: normal(random, [batch, heads, headSize, stateSize]),
        x: normal(random, [batch, width]),
        norm: normal(random, [width], 0.1, 1),
        inProj: normal(random, [inner + channels + heads, width], width ** -0.5),
        convWeight: normal(random, [channels, taps], 0.5),
        convBias: normal(random, [channels], 0.1),
        dtBias: uniform(random, [heads], -5, -1),
        A: uniform(random, [heads], -16, -1),
        D: normal(random, [heads], 0.1, 1),
        gatedNorm: normal(random, [inner], 0.1, 1),
        outProj: normal(random, [width, inner], inner ** -0.5),
      }),
      run(input) {
        const state = { conv: input('conv'), ssm: input('ssm') };
        const weights = {
          ...{ norm: input('norm'), inProj: input('inProj'), convWeight: input('convWeight'), convBias: everything ? input('convBias') : null },
          ...{ dtBias: input('dtBias'), A: input('A'), D: input('D'), gatedNorm: everything ? input('gatedNorm') : null, outProj: input('outProj') },
        };
        const options = { groups, ...(everything ? { gatedEpsilon: 1e-3, deltaLimits: [0.01, 0.1] as const } : {}) };
        const first = ssdBlockStep(input('x'), state, weights, { ...options, parts: everything });
        const second = ssdBlockStep(first.x, state, weights, { ...options, residual: first.residual });
        return [second.x, second.residual, state.conv, state.ssm];
      },
      differentiable: [],
      half: ['x', 'inProj', 'outProj'],
      reductionLength: Math.max(width, inner),
    };
  }),
);
