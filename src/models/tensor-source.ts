import type { SafetensorsSource } from '../io/index.js';
import type { Tensor } from '../tensor/index.js';

/** A host copy of a float tensor in float32, ready to be written to a safetensors file. */
export async function float32Source(key: string, tensor: Tensor): Promise<SafetensorsSource> {
  const values = await tensor.data();
  const data = values instanceof Float32Array ? values : Float32Array.from(values);
  const bytes = () => new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return { key, dtype: 'F32', shape: tensor.shape, sizeBytes: data.byteLength, bytes };
}
