export { GruMixer } from './gru/mixer.js';
export { mambaMixerConfig, type MambaInitialisation, type MambaMixerConfig, type MambaMixerOptions } from './mamba/config.js';
export { Mamba, type MambaOptions } from './mamba/layer.js';
export { MambaMixer } from './mamba/mixer.js';
