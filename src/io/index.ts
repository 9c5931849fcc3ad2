/** Reading and writing checkpoint files: `elapid/io`. */
export { openCheckpoint, type Checkpoint } from './checkpoint.js';
export type { CheckpointEntry } from './checkpoint-entry.js';
export { parseSafetensors, type SafetensorsContent, type StoredTensor } from './safetensors.js';
export { safetensorsChunks, type SafetensorsSource } from './safetensors-writer.js';
export {
  fromFloat32,
  isStoredDType,
  storedDTypes,
  storedItemSizeBytes,
  toFloat32,
  toInt32,
  type StoredDType,
  type StoredFloatDType,
} from './stored-dtype.js';
