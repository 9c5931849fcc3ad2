/** Weights that follow from a hash of their keys: goldens of published sizes need no file of them. */
import { crc32 } from 'node:zlib';
import { LanguageModel, mambaConfig, mambaFamily, type MambaConfig } from '../../src/models/index.js';
import type { TensorSource } from '../../src/nn/index.js';
import { sizeOf, tensor, type Backend } from '../../src/tensor/index.js';

/** The finaliser of MurmurHash3. */
function mix(value: number): number {
  let x = value;
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}

/** Uniform values around `centre`, at most `scale` from it. */
export const hashedValues = (name: string, size: number, [centre, scale]: readonly [centre: number, scale: number]): Float32Array => {
  const offset = crc32(name);
  const values = new Float32Array(size);
  for (let i = 0; i < size; i++) values[i] = centre + scale * (2 * (mix((Math.imul(i, 2654435761) + offset) | 0) / 2 ** 32) - 1);
  return values;
};

/**
 * Hashed parameters; A_log as it starts.
 * @param rangeOf centre and scale of a parameter's values
 */
export const hashedWeights =
  (backend: Backend, rangeOf: (key: string, shape: readonly number[]) => [centre: number, scale: number]): TensorSource =>
  (key, { shape, initialiser }) =>
    tensor(backend, /A_(b_)?log$/.test(key) ? initialiser(shape, undefined as never) : hashedValues(key, sizeOf(shape), rangeOf(key, shape)), shape);

/** Mamba of 130M parameters, whose results in float64 are goldens. */
export const hashedMamba130m = (backend: Backend): LanguageModel<MambaConfig> =>
  new LanguageModel(mambaFamily, mambaConfig({ vocabularySize: 50280, dModel: 768, layers: 24 }), backend, hashedWeights(backend, rangeOf130m));

/** Centre and scale of a parameter's uniform values. */
function rangeOf130m(key: string, shape: readonly number[]): [centre: number, scale: number] {
  if (/norm(_f)?\.weight$|\.D$/.test(key)) return [1, 0.1];
  if (key.endsWith('dt_proj.bias')) return [-4, 2];
  if (key.includes('embeddings')) return [0, 0.05];
  if (key.endsWith('conv1d.weight')) return [0, 0.5];
  if (key.endsWith('.bias')) return [0, 0.1];
  return [0, 1.5 / Math.sqrt(shape.at(-1) ?? 1)];
}
