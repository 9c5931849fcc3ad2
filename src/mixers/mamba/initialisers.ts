import { constant, uniform, type Initialiser } from '../../nn/index.js';
import type { MambaMixerConfig } from './config.js';

/**
 * The start values that are Mamba's own (section 3.6 of the paper and the official implementation): A = −(1 … N) in every
 * channel (S4D-real), step sizes log-uniform in [dtMin, dtMax], D = 1.
 */
export function mambaInitialisers({ dState, dtRank, layers, initialisation }: MambaMixerConfig) {
  const { dtMin, dtMax, dtFloor, dtScale, dtInit, rescaleOutput } = initialisation;
  const dtBound = dtScale / Math.sqrt(dtRank);
  /** A_log[e, n] = ln(n + 1) */
  const aLog: Initialiser = ([channels = 0]) =>
    Float32Array.from({ length: channels * dState }, (_, i) => Math.log((i % dState) + 1));
  /** The inverse softplus of the step size: softplus(bias) = dt. */
  const dtBias: Initialiser = ([channels = 0], random) =>
    Float32Array.from({ length: channels }, () => {
      const drawn = Math.exp(Math.log(dtMin) + random.uniform() * (Math.log(dtMax) - Math.log(dtMin)));
      const dt = Math.max(drawn, dtFloor);
      return dt + Math.log(-Math.expm1(-dt));
    });
  return {
    aLog,
    dtBias,
    dtWeight: dtInit === 'random' ? uniform(dtBound) : constant(dtBound),
    skip: constant(1),
    /** Divides the bound of out_proj by √layers, so that the residual stream's variance does not grow with depth. */
    outputGain: rescaleOutput ? 1 / Math.sqrt(layers) : 1,
  };
}
