import { describe, expect, test } from 'vitest';
import { generateTokens, prefill, type GenerateOptions } from '../../src/generate/index.js';
import type { LanguageModel } from '../../src/models/index.js';
import type { Backend } from '../../src/tensor/index.js';
import { ArgumentError } from '../../src/util/errors.js';
import { compiledKernels, useBackend } from '../support/backends.js';
import { expectClose, tolerance } from '../support/compare.js';
import { randomIds, smallModel, memoryOf } from '../support/models.js';

/** With a head of its own the model does not just repeat the last token. */
const livelyModel = (backend: Backend) => smallModel(backend, { tiedHead: false });

const prompt = [...randomIds(9, 23)];

async function generate(model: LanguageModel, promptIds: ArrayLike<number>, options: GenerateOptions): Promise<number[]> {
  const ids: number[] = [];
  for await (const id of generateTokens(model, promptIds, options)) ids.push(id);
  return ids;
}

describe.each(compiledKernels)('generating tokens on %s', (kernels) => {
  const backend = useBackend('cpu', { kernels });

  test('equal seeds repeat, different seeds differ', async () => {
    const model = livelyModel(backend());
    const first = await generate(model, prompt, { seed: 5, maxTokens: 30 });
    expect(first).toHaveLength(30);
    expect(await generate(model, prompt, { seed: 5, maxTokens: 30 })).toEqual(first);
    expect(await generate(model, prompt, { seed: 6, maxTokens: 30 })).not.toEqual(first);
    expect(await generate(model, prompt, { seed: 5, maxTokens: 11 })).toEqual(first.slice(0, 11));
    model.dispose();
  });

  test('temperature 0 is the same for every seed, and takes the largest logit', async () => {
    const model = livelyModel(backend());
    const greedy = await generate(model, prompt, { temperature: 0, seed: 1, maxTokens: 20 });
    expect(await generate(model, prompt, { temperature: 0, seed: 2, maxTokens: 20 })).toEqual(greedy);
    expect(new Set(greedy).size).toBeGreaterThan(3);
    for (let count = 0; count < greedy.length; count += 6) {
      const state = model.newState(1);
      const logits = await prefill(model, [...prompt, ...greedy.slice(0, count)], state);
      expect(logits.indexOf(Math.max(...logits))).toBe(greedy[count]);
      state.dispose();
    }
    model.dispose();
  });

  test('a state goes on exactly where a longer prompt would', async () => {
    const model = livelyModel(backend());
    const options = { temperature: 0, maxTokens: 16 };
    const whole = await generate(model, prompt, options);
    const state = model.newState(1);
    expect(await generate(model, prompt.slice(0, 4), { ...options, state, maxTokens: 0 })).toEqual([]);
    expect(state.position).toBe(4);
    const first = await generate(model, prompt.slice(4), { ...options, state, maxTokens: 6 });
    // The last token generated is not fed back: it is the next prompt.
    expect(state.position).toBe(prompt.length + 5);
    const rest = await generate(model, first.slice(-1), { ...options, state, maxTokens: 10 });
    expect([...first, ...rest]).toEqual(whole);

    const other = model.newState(1);
    const all = [...prompt, ...whole];
    await prefill(model, all.slice(0, -1), other);
    expect(state.position).toBe(all.length - 1);
    for (const [i, { conv, ssm }] of memoryOf(state).entries()) {
      const expected = memoryOf(other)[i] ?? expect.fail('a layer is missing');
      expectClose(await conv.data(), await expected.conv.data(), tolerance(all.length), `convolution state ${i}`);
      expectClose(await ssm.data(), await expected.ssm.data(), tolerance(all.length), `scan state ${i}`);
    }
    state.dispose();
    other.dispose();
    model.dispose();
    expect(backend().statistics().liveBuffers).toBe(0);
  });
});

describe('ending a generation', () => {
  const backend = useBackend('cpu');

  test.each([0, 1, 2, 7])('maxTokens %i gives as many', async (maxTokens) => {
    const model = livelyModel(backend());
    const { liveBuffers } = backend().statistics();
    expect(await generate(model, prompt, { maxTokens })).toHaveLength(maxTokens);
    expect(backend().statistics().liveBuffers).toBe(liveBuffers);
    model.dispose();
  });

  test('without maxTokens it ends at 256', async () => {
    const model = livelyModel(backend());
    expect(await generate(model, prompt, { seed: 1 })).toHaveLength(256);
    model.dispose();
  });

  test.each([1, 2, 10])('leaving the loop after %i tokens frees everything', async (count) => {
    const model = livelyModel(backend());
    const { liveBuffers } = backend().statistics();
    const seen: number[] = [];
    for await (const id of generateTokens(model, prompt, { seed: 1 })) {
      seen.push(id);
      if (seen.length === count) break;
    }
    expect(backend().statistics().liveBuffers).toBe(liveBuffers);
    model.dispose();
  });

  test.each([0, 1, 2, 10])('an abort after %i tokens throws the signal’s reason and frees everything', async (count) => {
    const model = livelyModel(backend());
    const { liveBuffers } = backend().statistics();
    const controller = new AbortController();
    const reason = new Error('the reader left');
    if (count === 0) controller.abort(reason);
    const seen: number[] = [];
    const loop = async () => {
      for await (const id of generateTokens(model, prompt, { seed: 1, signal: controller.signal })) {
        seen.push(id);
        if (seen.length === count) controller.abort(reason);
      }
    };
    await expect(loop()).rejects.toBe(reason);
    expect(seen).toHaveLength(count);
    expect(backend().statistics().liveBuffers).toBe(liveBuffers);
    model.dispose();
  });

  test('an abort stops a long prompt at the next chunk', async () => {
    const model = livelyModel(backend());
    const state = model.newState(1);
    const { liveBuffers } = backend().statistics();
    const controller = new AbortController();
    const reading = prefill(model, randomIds(40_000, 23), state, { chunkLength: 16, signal: controller.signal });
    controller.abort();
    await expect(reading).rejects.toThrow(/abort/);
    expect(state.position).toBe(16);
    expect(backend().statistics().liveBuffers).toBe(liveBuffers);
    state.dispose();
    model.dispose();
  });

  test('a state that was given stays usable after an abort', async () => {
    const model = livelyModel(backend());
    const state = model.newState(1);
    const controller = new AbortController();
    const tokens = generateTokens(model, prompt, { temperature: 0, state, signal: controller.signal });
    const first = await tokens.next();
    controller.abort();
    await expect(tokens.next()).rejects.toThrow(/abort/);
    const rest = await generate(model, [first.value ?? -1], { temperature: 0, state, maxTokens: 5 });
    expect([first.value, ...rest]).toEqual(await generate(model, prompt, { temperature: 0, maxTokens: 6 }));
    state.dispose();
    model.dispose();
  });
});

describe('what cannot be generated', () => {
  const backend = useBackend('cpu');

  test.each([
    { name: 'an empty prompt', ids: [], options: {}, message: /read: ids is empty; expected at least one id/ },
    { name: 'an id beyond the vocabulary', ids: [1, 2, 23], options: {}, message: /ids\[2\] is 23; .*\[0, 23\).*Hint: is this the tokenizer of this model\?/ },
    { name: 'a negative id', ids: [-1], options: {}, message: /ids\[0\] is -1; expected an integer in \[0, V\)/ },
    { name: 'half an id', ids: [1, 0.5], options: {}, message: /ids\[1\] is 0\.5/ },
    { name: 'maxTokens −1', ids: [1], options: { maxTokens: -1 }, message: /maxTokens is -1; expected an integer ≥ 0/ },
    { name: 'maxTokens 1.5', ids: [1], options: { maxTokens: 1.5 }, message: /maxTokens is 1\.5/ },
    { name: 'temperature −1', ids: [1], options: { temperature: -1 }, message: /temperature is -1; expected a number ≥ 0/ },
    { name: 'topP 0', ids: [1], options: { topP: 0 }, message: /topP is 0; expected a number in \(0, 1\]/ },
  ])('$name', async ({ ids, options, message }) => {
    const model = livelyModel(backend());
    const { liveBuffers } = backend().statistics();
    const failed = generate(model, ids, options);
    await expect(failed).rejects.toThrow(message);
    await expect(failed).rejects.toBeInstanceOf(ArgumentError);
    expect(backend().statistics().liveBuffers).toBe(liveBuffers);
    model.dispose();
  });

  test('a state of two sequences', async () => {
    const model = livelyModel(backend());
    const state = model.newState(2);
    await expect(generate(model, prompt, { state })).rejects.toThrow(/generate: state is 2; expected 1 sequences/);
    state.dispose();
    model.dispose();
  });
});
