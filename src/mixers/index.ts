export { largestMixerSizes, mambaMixerConfig, mixerMatrixSize, sizeProblem } from './mamba/config.js';
export type { MambaInitialisation, MambaMixerConfig, MambaMixerOptions } from './mamba/config.js';
export { Mamba, type MambaOptions } from './mamba/layer.js';
export { MambaMixer } from './mamba/mixer.js';
