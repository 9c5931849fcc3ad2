export { mambaConfig, mambaSizes, type MambaConfig, type MambaConfigOptions, type MambaModelInitialisation, type MambaSize } from './config.js';
export { mambaFamily } from './family.js';
