/**
 * The public API: tensors, operations and gradients, layers and models. Files, tokenizers, generation, data and training
 * are in `elapid/io`, `elapid/tokenizer`, `elapid/generate`, `elapid/data` and `elapid/train`; the paper's synthetic tasks in
 * `elapid/tasks`, and benchmarks in `elapid/eval`.
 */
export {
  ArgumentError,
  BackendError,
  CheckpointError,
  DisposedError,
  DTypeError,
  ElapidError,
  FileError,
  ShapeError,
  type ArgumentProblem,
  type CheckpointLocation,
  type Problem,
} from './util/errors.js';
export { Random } from './util/random.js';
export {
  empty,
  keep,
  scope,
  tensor,
  Tensor,
  type Backend,
  type BackendStatistics,
  type DType,
  type FloatDType,
  type HostArray,
  type Precision,
  type Program,
  type Shape,
} from './tensor/index.js';
export { openBackend, type BackendOptions } from './backend/open.js';
export { PlanBackend, type PlannedLaunch } from './backend/plan/plan-backend.js';
export * from './ops/index.js';
export { recompute, Tape, valueAndGradients } from './autograd/index.js';
export * as nn from './nn/index.js';
export * from './mixers/index.js';
export * from './models/index.js';
