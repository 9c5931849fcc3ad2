import { describe, expect, test } from 'vitest';
import { packWeight, unpackWeight } from '../../src/ops/packed/packed.js';
import { packedDTypes, tensor, type Backend } from '../../src/tensor/index.js';
import { Random } from '../../src/util/random.js';
import { gpuIsHere, useBackend } from '../support/backends.js';

describe.runIf(gpuIsHere)('packing on a GPU', () => {
  const gpu = useBackend('webgpu');
  const reference = useBackend('reference');
  const [rows, columns] = [19, 200];
  const random = new Random(3);
  // Blocks of all magnitudes, and some that are zero, below what is kept, infinite, no number, or full of ties.
  const weight = Float32Array.from({ length: rows * columns }, (_, i) => {
    const row = Math.floor(i / columns);
    if (row === 0) return i % columns < 40 ? 0 : 2 ** -95 * random.normal();
    if (row === 1) return i === columns + 7 ? Infinity : i === columns + 90 ? NaN : random.normal();
    if (row === 2) return ((i % 255) - 127) / 2;
    return 2 ** (3 * row - 40) * random.normal();
  });

  test.each(packedDTypes)('%s: the same bytes and values as the reference', async (dtype) => {
    const pack = async (backend: Backend) => {
      const whole = tensor(backend, weight, [rows, columns]);
      const packed = packWeight(whole, dtype);
      const unpacked = unpackWeight(packed);
      const result = { bytes: [...(await packed.data())], values: [...Float32Array.from(await unpacked.data())] };
      for (const made of [whole, packed, unpacked]) made.dispose();
      return result;
    };
    expect(await pack(gpu())).toEqual(await pack(reference()));
  });
});
