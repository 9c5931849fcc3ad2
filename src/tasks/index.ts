export * from './accuracy.js';
export * from './induction-heads.js';
export * from './lengths.js';
export * from './presets.js';
export * from './selective-copying.js';
export { TaskBatches, type Task } from './task.js';
