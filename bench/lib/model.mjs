// The models that the rows of whole models run: the shapes of mamba-130m, of mamba2-130m and of a Transformer of their size, with random weights, written once
// to build/bench in the formats that we and llama.cpp read.
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { LanguageModel, loadModel, mamba2Family, mambaConfig, mambaFamily, openBackend, saveGguf, saveModel, transformerFamily } from 'elapid';

/**
 * A model of the rows. `matrices` are the values that products read for a token, the head included; `all` those of all parameters; `decays`
 * the exponentials of the scan for a token, `pairOperations` the operations of attention for a pair of positions, `stateBytes` the state, which
 * every decoded token reads and writes.
 * @typedef {object} BenchModel
 * @property {string} name
 * @property {number} vocabularySize
 * @property {number} dModel
 * @property {number} matrices
 * @property {number} all
 * @property {number} decays
 * @property {number} pairOperations
 * @property {number} stateBytes
 * @property {(backend: import('elapid').Backend) => LanguageModel} initial
 */

/** The published mamba-130m. */
export const config = mambaConfig({
  vocabularySize: 50280,
  dModel: 768,
  layers: 24,
  // Deviations at which the blocks, not the last input alone, decide the next token: see the check in rows/models.mjs.
  initialisation: { embeddingDeviation: 0.01, rescaleOutput: false },
});

/** The published mamba2-130m; as above. */
const config2 = { ...mamba2Family.configOf({ size: '130m' }), embeddingDeviation: 0.01, rescaleOutput: false };

/** A Transformer of as many parameters: RMS norm, rotary positions, SwiGLU. The deviation is chosen as Mamba's. */
const transformerConfig = { ...transformerFamily.configOf({ vocabularySize: 50280, size: '125m', contextLength: 4096 }), deviation: 0.06 };

/** @type {BenchModel} */
export const mamba130m = (() => {
  const { layers, vocabularySize, dModel: D, dInner: E, dState: N, dConv: K, dtRank: R } = config;
  const matrices = layers * (2 * E * D + (R + 2 * N) * E + E * R + D * E) + vocabularySize * D;
  return {
    ...{ name: 'mamba-130m', vocabularySize, dModel: D, matrices, all: matrices + layers * (E * N + E * K + 3 * E + D) + D },
    ...{ decays: layers * E * N, pairOperations: 0, stateBytes: 4 * layers * E * (N + K - 1) },
    initial: (backend) => LanguageModel.initial(mambaFamily, config, backend, 1),
  };
})();

/** @type {BenchModel} */
export const mamba2130m = (() => {
  const { layers, vocabularySize, dModel: D, dInner: E, dState: N, dConv: K, headSize: P, groups: G } = config2;
  const [heads, channels] = [E / P, E + 2 * G * N];
  const matrices = layers * ((E + channels + heads) * D + D * E) + vocabularySize * D;
  return {
    ...{ name: 'mamba2-130m', vocabularySize, dModel: D, matrices, all: matrices + layers * (channels * (K + 1) + 3 * heads + E + D) + D },
    ...{ decays: 0, pairOperations: 0, stateBytes: 4 * layers * (E * N + channels * (K - 1)) },
    initial: (backend) => LanguageModel.initial(mamba2Family, config2, backend, 1),
  };
})();

/** @type {BenchModel} */
export const transformer125m = (() => {
  const { layers, vocabularySize, dModel: D, heads, kvHeads, headSize, inner } = transformerConfig;
  const matrices = layers * (2 * D * headSize * (heads + kvHeads) + 3 * D * inner) + vocabularySize * D;
  return {
    ...{ name: 'transformer-125m', vocabularySize, dModel: D, matrices, all: matrices + (2 * layers + 1) * D },
    ...{ decays: 0, stateBytes: 0, pairOperations: 4 * layers * heads * headSize },
    initial: (backend) => LanguageModel.initial(transformerFamily, transformerConfig, backend, 1),
  };
})();

const folder = fileURLToPath(new URL('../../build/bench', import.meta.url));

/** The folder of a model's checkpoint, made if need be. @param {BenchModel} model */
export async function checkpointFolder({ name, initial }) {
  const path = join(folder, name);
  if (!existsSync(join(path, 'config.json'))) {
    await mkdir(folder, { recursive: true });
    const backend = await openBackend('cpu');
    const made = initial(backend);
    await saveModel(made, path);
    made.dispose();
    await backend.close();
  }
  return path;
}

/**
 * A tokenizer that is made up, a token for each id: nothing is tokenized, and no file of anybody else's is needed. Without one,
 * node-llama-cpp does not load the file.
 * @param {number} size
 */
const madeUpTokenizer = (size) => ({
  definition: {
    ...{ added_tokens: [], pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false }, decoder: { type: 'ByteLevel' } },
    model: { type: 'BPE', vocab: Object.fromEntries(Array.from({ length: size }, (_, id) => [`t${id}`, id])), merges: ['t 0'] },
  },
  config: { bos_token: 't0', eos_token: 't0' },
});

/**
 * The same weights for llama.cpp.
 * @param {BenchModel} of
 * @param {'f32' | 'f16' | 'q8_0'} type
 */
export async function ggufFile(of, type) {
  const path = join(folder, `${of.name}-${type}.gguf`);
  if (existsSync(path)) return path;
  const backend = await openBackend('cpu');
  const model = await loadModel(await checkpointFolder(of), backend);
  await saveGguf(model, path, { type, tokenizer: madeUpTokenizer(of.vocabularySize) });
  model.dispose();
  await backend.close();
  return path;
}
