import { uniform, type Initialiser } from '../../nn/index.js';
import { dtBias } from '../mamba/initialisers.js';
import type { Mamba2MixerConfig } from './config.js';

/** The start values that are Mamba-2's own, as the official implementation has them: −A uniform in [aMin, aMax], step sizes log-uniform in [dtMin, dtMax]. */
export function mamba2Initialisers({ initialisation }: Mamba2MixerConfig) {
  const { aMin, aMax, convBound } = initialisation;
  const aLog: Initialiser = ([heads = 0], random) => Float32Array.from({ length: heads }, () => Math.log(aMin + random.uniform() * (aMax - aMin)));
  return { aLog, dtBias: dtBias(initialisation), conv: convBound === null ? undefined : uniform(convBound) };
}
