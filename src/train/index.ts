/** Training and measuring: `elapid/train`. */
export * from './divergence.js';
export { bitsPerByte, evaluate, evaluateSequence, perplexity, wordPerplexity, type Evaluation, type EvaluationConduct } from './evaluate.js';
export type { LossSpike } from './loss-watch.js';
export { readMetrics, type DivergenceMetrics, type EvaluationMetrics, type Metrics, type MetricsLine, type SampleMetrics, type StepMetrics } from './metrics.js';
export * from './objective.js';
export * from './optimiser.js';
export { runTraining, type RunOptions, type RunResult, type RunTiming } from './run.js';
export * from './schedule.js';
export * from './trainer.js';
export { restoreTraining, saveTraining } from './training-checkpoint.js';
