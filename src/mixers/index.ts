export { GruMixer } from './gru/mixer.js';
export { BidirectionalMamba, type BidirectionalMambaConfig } from './mamba/bidirectional.js';
export { mambaMixerConfig, type MambaInitialisation, type MambaMixerConfig, type MambaMixerOptions } from './mamba/config.js';
export { Mamba, type MambaOptions } from './mamba/layer.js';
export { MambaMixer } from './mamba/mixer.js';
export { mamba2MixerConfig, type GatedNormConfig, type Mamba2Initialisation, type Mamba2MixerConfig, type Mamba2MixerOptions } from './mamba2/config.js';
export { Mamba2Mixer } from './mamba2/mixer.js';
export { S4Block, type S4Pass } from './s4/block.js';
export { s4Config, type S4Activation, type S4Config, type S4Init, type S4Options } from './s4/config.js';
