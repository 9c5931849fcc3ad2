import { constant, uniform, type Initialiser } from '../../nn/index.js';
import type { MambaInitialisation, MambaMixerConfig } from './config.js';

/** Biases whose softplus, the step size, is log-uniform in [dtMin, dtMax] and at least dtFloor. */
export const dtBias =
  ({ dtMin, dtMax, dtFloor }: Pick<MambaInitialisation, 'dtMin' | 'dtMax' | 'dtFloor'>): Initialiser =>
  ([channels = 0], random) =>
    Float32Array.from({ length: channels }, () => {
      const drawn = Math.exp(Math.log(dtMin) + random.uniform() * (Math.log(dtMax) - Math.log(dtMin)));
      const dt = Math.max(drawn, dtFloor);
      return dt + Math.log(-Math.expm1(-dt));
    });

/**
 * The start values that are Mamba's own (section 3.6 of the paper and the official implementation): A = −(1 … N) in every
 * channel (S4D-real), step sizes log-uniform in [dtMin, dtMax], D = 1.
 */
export function mambaInitialisers({ dState, dtRank, layers, initialisation }: MambaMixerConfig) {
  const { dtScale, dtInit, rescaleOutput } = initialisation;
  const dtBound = dtScale / Math.sqrt(dtRank);
  /** A_log[e, n] = ln(n + 1) */
  const aLog: Initialiser = ([channels = 0]) =>
    Float32Array.from({ length: channels * dState }, (_, i) => Math.log((i % dState) + 1));
  return {
    aLog,
    dtBias: dtBias(initialisation),
    dtWeight: dtInit === 'random' ? uniform(dtBound) : constant(dtBound),
    skip: constant(1),
    /** Divides the bound of out_proj by √layers, so that the residual stream's variance does not grow with depth. */
    outputGain: rescaleOutput ? 1 / Math.sqrt(layers) : 1,
  };
}
