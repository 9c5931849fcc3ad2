export { BatchSampler } from './batch-sampler.js';
export type { BatchSamplerOptions, BatchSamplerState } from './batch-sampler.js';
export type { BatchSource } from './batch-source.js';
export { loadTextFile } from './text-file.js';
export { ignoredTarget, splitText } from './tokens.js';
export type { Batch, BatchShape, TokenArray, TokenDataset } from './tokens.js';
export { validationBatches } from './validation-batches.js';
