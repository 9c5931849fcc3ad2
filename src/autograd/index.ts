export * from './norm-probe.js';
export * from './tape.js';
export * from './recompute.js';
