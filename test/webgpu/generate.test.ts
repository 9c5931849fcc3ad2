import { describe, expect, test } from 'vitest';
import { generateTokens } from '../../src/generate/index.js';
import type { LanguageModel } from '../../src/models/index.js';
import type { Backend } from '../../src/tensor/index.js';
import { gpuIsHere, useBackend } from '../support/backends.js';
import { expectClose } from '../support/compare.js';
import { idTensor, randomIds, smallModel } from '../support/models.js';

describe.runIf(gpuIsHere)('generation on webgpu', () => {
  const gpu = useBackend('webgpu');
  const cpu = useBackend('cpu');
  const prompt = randomIds(5, 23);

  async function generated(model: LanguageModel, options: Parameters<typeof generateTokens>[2]): Promise<number[]> {
    const ids: number[] = [];
    for await (const id of generateTokens(model, prompt, options)) ids.push(id);
    return ids;
  }

  test('draws greedily on the device what the host draws, past the tokens that are queued at a time', async () => {
    const [there, here] = [smallModel(gpu()), smallModel(cpu())];
    const options = { temperature: 0, maxTokens: 40 };
    expect(await generated(there, options)).toEqual(await generated(here, options));
    there.dispose();
    here.dispose();
  });

  test.each([1, 3, 7, 17])('a step of %i sequences gives the logits of the CPU', async (batch) => {
    const logitsOf = async (backend: Backend) => {
      // Extents that the fused step takes.
      const model = smallModel(backend, { dModel: 64, layers: 3, dState: 16, dConv: 4, dtRank: 4 });
      const [state, prepared] = [model.newState(batch), model.prepare()];
      const ids = idTensor(backend, new Int32Array(batch), [batch]);
      const all: number[] = [];
      for (const step of [0, 1, 2]) {
        ids.write(randomIds(batch, 23, step));
        const logits = model.step(ids, state, prepared);
        all.push(...(await logits.data()));
        logits.dispose();
      }
      for (const one of [ids, state, model, prepared]) one.dispose();
      return all;
    };
    expectClose(await logitsOf(gpu()), await logitsOf(cpu()), 2e-6, 'logits');
  });

  test('repeats itself for a seed, filters included, and may be left early', async () => {
    const model = smallModel(gpu());
    for (const options of [{ seed: 3, maxTokens: 20 }, { seed: 3, topK: 4, maxTokens: 6 }]) {
      const first = await generated(model, options);
      expect(first).toHaveLength(options.maxTokens);
      expect(await generated(model, options)).toEqual(first);
    }
    expect(await generated(model, { seed: 4, maxTokens: 20, temperature: 9 })).not.toEqual(await generated(model, { seed: 3, maxTokens: 20, temperature: 9 }));
    for await (const id of generateTokens(model, prompt, { maxTokens: 30 })) if (id >= 0) break;
    model.dispose();
  });

  test('leaves a state of one’s own after the last token fed back', async () => {
    const model = smallModel(gpu());
    const state = model.newState(1);
    const ids: number[] = [];
    for await (const id of generateTokens(model, prompt, { temperature: 0, maxTokens: 4, state })) ids.push(id);
    expect(state.position).toBe(prompt.length + ids.length - 1);
    state.dispose();
    model.dispose();
  });
});
