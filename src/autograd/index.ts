export * from './tape.js';
export * from './recompute.js';
