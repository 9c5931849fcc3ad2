/** Reading and writing checkpoint files: `elapid/io`. */
export { openCheckpoint, type Checkpoint, type CheckpointOptions } from './checkpoint.js';
export type { CheckpointEntry, StoredChecksum } from './checkpoint-entry.js';
export { parseSafetensors, verifySafetensors, type SafetensorsContent, type StoredTensor } from './safetensors.js';
export { checksummedChunks, safetensorsChunks, type SafetensorsSource } from './safetensors-writer.js';
export {
  fromFloat32,
  storedDTypes,
  toFloat32,
  toInt32,
  type StoredDType,
  type StoredFloatDType,
} from './stored-dtype.js';
