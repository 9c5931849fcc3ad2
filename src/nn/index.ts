export { expectFiniteWeights } from './finite.js';
export * from './initialisers.js';
export * from './layers.js';
export * from './parameters.js';
