import { fromFloat32, type SafetensorsSource } from '../io/index.js';
import type { Tensor } from '../tensor/index.js';

/** A host copy of a float tensor in its own dtype, ready to be written to a safetensors file. */
export const floatSource = (key: string, tensor: Tensor): Promise<SafetensorsSource> => sourceIn(key, tensor, tensor.dtype === 'f16' ? 'F16' : 'F32');

/** The same in float32. */
export const float32Source = (key: string, tensor: Tensor): Promise<SafetensorsSource> => sourceIn(key, tensor, 'F32');

async function sourceIn(key: string, tensor: Tensor, dtype: 'F32' | 'F16'): Promise<SafetensorsSource> {
  const values = await tensor.data();
  const bytes = fromFloat32(values instanceof Float32Array ? values : Float32Array.from(values), dtype);
  return { key, dtype, shape: tensor.shape, sizeBytes: bytes.byteLength, bytes: () => bytes };
}
