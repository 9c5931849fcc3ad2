import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseSafetensors, toFloat32, toInt32, type StoredTensor } from '../../src/io/index.js';

/** Absolute path of a golden file or folder. */
export const goldenPath = (name: string): string => fileURLToPath(new URL(`../fixtures/goldens/${name}`, import.meta.url));

/** Tensors of a safetensors file; asking for one it does not have fails the test. */
export class Goldens {
  readonly #tensors: ReadonlyMap<string, StoredTensor>;

  constructor(path: string) {
    this.#tensors = parseSafetensors(readFileSync(path), path).tensors;
  }

  get keys(): string[] {
    return [...this.#tensors.keys()];
  }

  shape(key: string): readonly number[] {
    return this.#get(key).shape;
  }

  floats(key: string): Float32Array | Float64Array {
    const { bytes, dtype } = this.#get(key);
    // A Buffer's slice would be no copy.
    return dtype === 'F64' ? new Float64Array(new Uint8Array(bytes).buffer) : toFloat32(bytes, dtype);
  }

  /** Of a tensor of bytes, such as PyTorch's booleans. */
  bytes(key: string): Uint8Array {
    return new Uint8Array(this.#get(key).bytes);
  }

  integers(key: string): Int32Array {
    const { bytes, dtype } = this.#get(key);
    return toInt32(bytes, dtype);
  }

  #get(key: string): StoredTensor {
    const found = this.#tensors.get(key);
    if (found === undefined) throw new Error(`no golden '${key}'`);
    return found;
  }
}
