/** Gradients of a whole model in mixed precision against those in float32, on the same GPU. Plain JavaScript over a package that is handed in. */

/** What a gradient may differ by, as a share of its norm: roundings of some layers, forth and back. */
export const mixedTolerance = 0.01;

/**
 * ‖gradient − float32’s‖ / ‖float32’s‖ of every parameter: of a model with several tiles and several parts of the depth in all of its
 * products, on documents with carried state, as in training.
 * @param {typeof import('../../src/index.js')} elapid
 * @returns {Promise<{ key: string, error: number }[]>}
 */
export async function mixedGradientErrors(elapid) {
  const exact = await gradients(elapid, 'f32', 1);
  const mixed = await gradients(elapid, 'f16', 2 ** 14);
  return [...exact].map(([key, values]) => {
    const others = mixed.get(key) ?? [];
    const norm = (/** @type {(i: number) => number} */ of) => Math.sqrt(values.reduce((sum, _, i) => sum + of(i) ** 2, 0));
    return { key, error: norm((i) => (others[i] ?? NaN) - (values[i] ?? NaN)) / norm((i) => values[i] ?? NaN) };
  });
}

/**
 * @param {typeof import('../../src/index.js')} elapid
 * @param {'f32' | 'f16'} precision
 * @param {number} scale
 */
async function gradients({ openBackend, LanguageModel, mambaConfig, mambaFamily, Random, tensor, valueAndGradients }, precision, scale) {
  const [batch, length] = [4, 512];
  const backend = await openBackend('webgpu', { precision });
  const model = LanguageModel.initial(mambaFamily, mambaConfig({ vocabularySize: 256, dModel: 256, layers: 2 }), backend, 1);
  const state = model.newState(batch);
  const random = new Random(3);
  const ids = Int32Array.from({ length: batch * length + 1 }, () => random.integer(256));
  const starts = Int32Array.from({ length: batch * length }, (_, i) => (i % 300 === 0 ? 1 : 0));
  const put = (/** @type {Int32Array} */ values) => tensor(backend, values, [batch, length], 'i32');
  try {
    const by = model.parameters.map((parameter) => parameter.tensor);
    const loss = () => model.loss(put(ids.slice(0, -1)), put(ids.slice(1)), { sequenceStarts: put(starts), state });
    const made = valueAndGradients(by, loss, { scale });
    /** @type {Map<string, number[]>} */
    const found = new Map();
    for (const [i, { key }] of model.parameters.entries()) {
      found.set(key, Array.from((await made.gradients[i]?.data()) ?? [], (value) => Number(value) / scale));
    }
    return found;
  } finally {
    await backend.close();
  }
}
