export { GruMixer } from './gru/mixer.js';
export { BidirectionalMamba, type BidirectionalMambaConfig } from './mamba/bidirectional.js';
export { mambaMixerConfig, type MambaInitialisation, type MambaMixerConfig, type MambaMixerOptions } from './mamba/config.js';
export { Mamba, type MambaOptions } from './mamba/layer.js';
export { MambaMixer } from './mamba/mixer.js';
export { mamba2MixerConfig, type GatedNormConfig, type Mamba2Initialisation, type Mamba2MixerConfig, type Mamba2MixerOptions } from './mamba2/config.js';
export { Mamba2Mixer } from './mamba2/mixer.js';
export type { SwitchConfig } from './switch/config.js';
export { Switch } from './switch/mixer.js';
