export * from './norm-probe.js';
export * from './tape.js';
export { recompute } from './recompute.js';
