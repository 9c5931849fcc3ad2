export * from './block.js';
export * from './checkpoint.js';
export * from './config.js';
export * from './language-model.js';
export * from './mixer.js';
export { storedWeightDType } from './packed-checkpoint.js';
export * from './packing.js';
export * from './selection.js';
export * from './state.js';
