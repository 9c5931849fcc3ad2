/** llama.cpp computes from our GGUF files what we compute: `bench/peers` must be installed. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { generateTokens } from '../../src/generate/index.js';
import { LanguageModel, loadModel, mambaConfig, mambaFamily, saveGguf } from '../../src/models/index.js';
import { useBackend } from '../support/backends.js';
import { useFolder } from '../support/folders.js';
import { contentOf, madeUpTokenizer, packers, writeContent } from '../support/gguf.js';
import { goldenPath } from '../support/goldens.js';

const library = fileURLToPath(new URL('../../bench/peers/node_modules/node-llama-cpp/dist/index.js', import.meta.url));

/** The little of node-llama-cpp that is used. */
interface Llama {
  loadModel(options: object): Promise<{
    createContext(options: object): Promise<{ getSequence(): { evaluate(ids: number[], options: object): AsyncIterable<number> } }>;
    dispose(): Promise<void>;
  }>;
  dispose(): Promise<void>;
}

const prompt = [5, 17, 3, 30, 21, 2, 9];
const count = 12;

describe.skipIf(!existsSync(library))(`llama.cpp${existsSync(library) ? '' : ' [skipped: bench/peers is not installed]'}`, () => {
  const backend = useBackend('cpu', { kernels: 'auto', threads: 1 });
  const path = useFolder();

  async function ours(model: LanguageModel): Promise<number[]> {
    const ids: number[] = [];
    for await (const id of generateTokens(model, prompt, { temperature: 0, maxTokens: count })) ids.push(id);
    return ids;
  }

  async function theirs(file: string): Promise<number[]> {
    const { getLlama } = (await import(library)) as { readonly getLlama: (options: object) => Promise<Llama> };
    const llama = await getLlama({ gpu: false, build: 'never', skipDownload: true, maxThreads: 1, logLevel: 'error' });
    const model = await llama.loadModel({ modelPath: file, gpuLayers: 0 });
    const sequence = (await model.createContext({ contextSize: 64, threads: 1 })).getSequence();
    const ids: number[] = [];
    for await (const id of sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
      ids.push(id);
      if (ids.length === count) break;
    }
    await llama.dispose();
    return ids;
  }

  const mamba = (dModel: number) => {
    const config = mambaConfig({ vocabularySize: 64, dModel, dInner: 2 * dModel, layers: 2, initialisation: { embeddingDeviation: 0.05, rescaleOutput: false } });
    return LanguageModel.initial(mambaFamily, config, backend(), 7);
  };
  const models = [
    { name: 'hf-mamba', make: () => loadModel(goldenPath('hf-mamba'), backend()) },
    { name: 'a random Mamba', make: () => Promise.resolve(mamba(64)) },
    { name: 'state-spaces-mamba2', make: () => loadModel(goldenPath('state-spaces-mamba2'), backend()) },
    { name: 'hf-llama', make: () => loadModel(goldenPath('hf-llama'), backend()) },
    { name: 'hf-gpt-neox', make: () => loadModel(goldenPath('hf-gpt-neox'), backend()) },
  ];
  test.each(models)('$name in f32: the same tokens', async ({ name, make }) => {
    const model = await make();
    const file = path(`${name}.gguf`);
    await saveGguf(model, file, { tokenizer: madeUpTokenizer(model.config.vocabularySize) });
    expect(await theirs(file)).toEqual(await ours(model));
    model.dispose();
  });

  // llama.cpp rounds the inputs of such products too: to 8 bits, which first tokens survive.
  test.each(['bf16', 'q4_0', 'q8_0', 'q4_k', 'q6_k'] as const)('matrices in %s: the same first tokens', async (kind) => {
    const model = mamba(256);
    await saveGguf(model, path('whole.gguf'), { tokenizer: madeUpTokenizer(64) });
    model.dispose();
    const { pairs, tensors } = await contentOf(path('whole.gguf'));
    const quantized = tensors.map((tensor) => {
      const wide = tensor.shape.length === 2 && (tensor.shape[1] ?? 0) % 256 === 0;
      return wide ? { ...tensor, type: kind, bytes: packers[kind](new Float32Array(tensor.bytes.buffer)).bytes } : tensor;
    });
    writeContent(path(`${kind}.gguf`), pairs, quantized);
    const back = await loadModel(path(`${kind}.gguf`), backend());
    expect((await theirs(path(`${kind}.gguf`))).slice(0, 4)).toEqual((await ours(back)).slice(0, 4));
    back.dispose();
  });
});
