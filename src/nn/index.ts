export * from './backbone.js';
export * from './auxiliary.js';
export * from './block.js';
export * from './initialisers.js';
export * from './layers.js';
export * from './mixer.js';
export * from './parameters.js';
