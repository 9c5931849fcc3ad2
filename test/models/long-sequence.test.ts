import { describe, expect, test } from 'vitest';
import { Decoder, prefill } from '../../src/generate/index.js';
import { mambaConfig, LanguageModel, mambaFamily } from '../../src/models/index.js';
import { useBackend } from '../support/backends.js';
import { expectClose } from '../support/compare.js';
import { randomIds, memoryOf } from '../support/models.js';

const length = 200_000;
const chunkLength = 512;
const ids = randomIds(length, 256);

// One thread: a step of so small a model is not worth waking others.
describe('a prompt of 200,000 bytes', () => {
  const backend = useBackend('cpu', { threads: 1, poison: false });
  const byteModel = () => LanguageModel.initial(mambaFamily, mambaConfig({ vocabularySize: 256, dModel: 32, layers: 2 }), backend(), 1);

  test('needs no more memory than one of 4,000: weights, state and one chunk', async () => {
    const model = byteModel();
    const cost = async (count: number) => {
      const state = model.newState(1);
      backend().resetStatistics();
      await prefill(model, ids.subarray(0, count), state, { chunkLength });
      expect(state.position).toBe(count);
      const { peakBytes } = backend().statistics();
      state.dispose();
      return peakBytes;
    };
    const peakBytes = await cost(4000);
    expect(await cost(length)).toBe(peakBytes);
    expect(peakBytes).toBeLessThan(1.5e6);
    model.dispose();
  });

  test('gives the logits of 200,000 single steps', async () => {
    const model = byteModel();
    const [whole, stepped] = [model.newState(1), model.newState(1)];
    const last = await prefill(model, ids, whole, { chunkLength });
    const decoder = new Decoder(model, stepped);
    let logits: Float32Array = new Float32Array();
    for (const id of ids) logits = await decoder.step([id]);
    // The state forgets, and its rounding errors with it: the length of the text does not enter the tolerance.
    expectClose(logits, last, 1e-5, 'last logits');
    expect(stepped.position).toBe(length);
    for (const [i, { conv, ssm }] of memoryOf(stepped).entries()) {
      const expected = memoryOf(whole)[i] ?? expect.fail('a layer is missing');
      expectClose(await conv.data(), await expected.conv.data(), 1e-5, `convolution state ${i}`);
      expectClose(await ssm.data(), await expected.ssm.data(), 1e-5, `scan state ${i}`);
    }
    for (const one of [decoder, whole, stepped, model]) one.dispose();
  });
});
