export * from './divergence.js';
export * from './evaluate.js';
export { LossWatch, type LossSpike } from './loss-watch.js';
export * from './metrics.js';
export * from './optimiser.js';
export * from './run.js';
export * from './schedule.js';
export * from './trainer.js';
export * from './training-checkpoint.js';
