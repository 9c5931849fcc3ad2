// Models as the rows run them, and whether this build has what a row is about.
import { loadModel, matmul, openBackend, scope, tensor } from 'elapid';
import { checkpointFolder } from './model.mjs';
import { NotAvailable } from './row.mjs';

/** @typedef {import('./model.mjs').BenchModel} BenchModel */
/** Formats of weights that `loadModel` may offer. @typedef {'f32' | 'bf16' | 'int8' | 'int4'} Format */

/** Compiled kernels that rows open which name none. @type {string | undefined} */
let chosenKernels;
/** @param {string | undefined} kernels as `openBackend` takes them */
export function useKernels(kernels) {
  chosenKernels = kernels;
}

/**
 * Opens the CPU backend.
 * @param {{threads: number, bf16?: boolean, kernels?: string}} options bf16: matrix products in bfloat16
 * @throws NotAvailable when the build has no such products: they would give the bits of float32
 */
export async function openCpu({ threads, bf16 = false, kernels = chosenKernels }) {
  const options = /** @type {import('elapid').BackendOptions} */ ({ threads, ...(kernels === undefined ? {} : { kernels }) });
  if (!bf16) return openBackend('cpu', options);
  const backend = await openBackend('cpu', { ...options, precision: 'bf16' });
  const plain = await openBackend('cpu', options);
  const [rounded, exact] = await Promise.all([product(backend), product(plain)]);
  await plain.close();
  if (rounded.some((x, i) => x !== exact[i])) return backend;
  await backend.close();
  throw new NotAvailable("bf16 products (openBackend's option precision: 'bf16') are not available in this build");
}

/** A product of matrices large enough for any kernel's fast path. @param {import('elapid').Backend} backend */
async function product(backend) {
  const size = 128;
  const values = Float32Array.from({ length: size * size }, (_, i) => Math.sin(i));
  const result = scope(() => matmul(tensor(backend, values, [size, size]), tensor(backend, values, [size, size])));
  const data = await result.data();
  result.dispose();
  return data;
}

/**
 * Opens a backend and loads a model; `sizeBytes` is what its parameters take.
 * @param {BenchModel} of
 * @param {Format} format
 * @param {{threads: number, bf16?: boolean}} options
 * @throws NotAvailable when this build loads no such format: the weights would take the memory of float32
 */
export async function openModel(of, format, options) {
  const folder = await checkpointFolder(of);
  const backend = await openCpu(options);
  const load = /** @type {(path: string, on: typeof backend, options?: {dtype: Format}) => ReturnType<typeof loadModel>} */ (loadModel);
  try {
    const model = await (format === 'f32' ? load(folder, backend) : load(folder, backend, { dtype: format }));
    const close = async () => {
      model.dispose();
      await backend.close();
    };
    // Nothing but the parameters lives yet.
    const { liveBytes: sizeBytes } = backend.statistics();
    if (format === 'f32' || sizeBytes < 0.9 * 4 * of.all) return { model, backend, sizeBytes, close };
    await close();
  } catch (error) {
    await backend.close();
    throw error;
  }
  throw new NotAvailable(`weights in ${format} (loadModel's option dtype) are not available in this build`);
}

/** Ids all over the vocabulary. @param {number} count */
export const promptIds = (count) => Array.from({ length: count }, (_, i) => ((i * 7919) % 50000) + 10);

/**
 * Floating-point operations of the matrix products of `tokens` tokens of one text through the blocks, attention's included, and of `logits` rows of logits.
 * @param {BenchModel} of @param {number} tokens @param {number} logits
 */
export function productOperations({ vocabularySize, dModel, matrices, pairOperations }, tokens, logits) {
  const head = vocabularySize * dModel;
  return 2 * (tokens * (matrices - head) + logits * head) + (pairOperations * tokens * (tokens + 1)) / 2;
}
