export * from './decoder.js';
export * from './generate.js';
export * from './sampling.js';
export * from './stop.js';
