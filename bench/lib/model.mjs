// The model that the rows of whole models run: the shape of mamba-130m with random weights, written once to build/bench in
// the formats that we and llama.cpp read.
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { mambaConfig, LanguageModel, openBackend, saveModel, mambaFamily } from 'elapid';
import { writeMambaGguf } from './gguf.mjs';

/** The published mamba-130m. */
export const config = mambaConfig({
  vocabularySize: 50280,
  dModel: 768,
  layers: 24,
  // Deviations at which the blocks, not the last input alone, decide the next token: see the check in rows/models.mjs.
  initialisation: { embeddingDeviation: 0.01, rescaleOutput: false },
});

const folder = fileURLToPath(new URL('../../build/bench', import.meta.url));

/** The folder of the checkpoint, made if need be. */
export async function checkpointFolder() {
  const model = join(folder, 'mamba-130m');
  if (!existsSync(join(model, 'config.json'))) {
    await mkdir(folder, { recursive: true });
    const backend = await openBackend('cpu');
    const made = LanguageModel.initial(mambaFamily, config, backend, 1);
    await saveModel(made, model);
    made.dispose();
    await backend.close();
  }
  return model;
}

/**
 * The same weights for llama.cpp.
 * @param {import('./gguf.mjs').GgufType} type
 */
export async function ggufFile(type) {
  const path = join(folder, `mamba-130m-${type}.gguf`);
  if (!existsSync(path)) await writeMambaGguf(await checkpointFolder(), config, path, type);
  return path;
}
