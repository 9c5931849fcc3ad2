import { describe, expect, test } from 'vitest';
import { openBackend } from '../../src/backend/open.js';
import { Decoder, generateTokens, prefill } from '../../src/generate/index.js';
import { State, type LanguageModel } from '../../src/models/index.js';
import { scope, type Backend } from '../../src/tensor/index.js';
import { ArgumentError, DisposedError } from '../../src/util/errors.js';
import { useMemoryKind } from '../support/backends.js';
import { idTensor, randomIds, smallModel } from '../support/models.js';

/** Everything that takes a state, with a prompt or an id. */
const uses: Record<string, (model: LanguageModel, state: State) => unknown> = {
  forward: (model, state) => scope(() => void model.forward(idTensor(model.backend, [1, 2], [1, 2]), { state })),
  loss: (model, state) =>
    scope(() => void model.loss(idTensor(model.backend, [1, 2], [1, 2]), idTensor(model.backend, [2, 3], [1, 2]), { state })),
  step: (model, state) => {
    const prepared = model.prepare();
    try {
      scope(() => void model.step(idTensor(model.backend, [1], [1]), state, prepared));
    } finally {
      prepared.dispose();
    }
  },
  prefill: (model, state) => prefill(model, [1, 2], state),
  generate: (model, state) => generateTokens(model, [1, 2], { state }).next(),
  decoder: (model, state) => new Decoder(model, state),
  assign(model, state) {
    const own = model.newState(1);
    try {
      own.assign(state);
    } finally {
      own.dispose();
    }
  },
};

const sized = { vocabularySize: 23, dModel: 20 };

describe('a state of something else', () => {
  const backend = useMemoryKind('native');
  const others: [name: string, make: (backend: Backend) => LanguageModel, message: RegExp][] = [
    ['with fewer layers', (on) => smallModel(on, { layers: 1 }), /state is a state of 1 × conv \[2,40\], 1 × ssm \[40,5\]; expected a state of 2 × conv \[2,40\], 2 × ssm/],
    ['with more layers', (on) => smallModel(on, { layers: 3 }), /state is a state of 3 × conv \[2,40\], 3 × ssm/],
    ['with other states per channel', (on) => smallModel(on, { dState: 4 }), /ssm \[40,4\]; expected .* ssm \[40,5\]/],
    ['with another convolution', (on) => smallModel(on, { dConv: 4 }), /conv \[3,40\], .*; expected .* conv \[2,40\]/],
    ['of the same sizes', (on) => smallModel(on, sized), /state is another model’s of the same sizes; expected one that this model’s newState\(\) made/],
  ];

  test.each(others.flatMap(([name, make, message]) => Object.keys(uses).map((use) => [name, use, make, message] as const)))(
    '%s: %s refuses it, and leaves nothing',
    async (_name, use, make, message) => {
      const [model, other] = [smallModel(backend(), sized), make(backend())];
      const state = other.newState(1);
      const { liveBuffers } = backend().statistics();
      const failed = Promise.resolve().then(() => uses[use]?.(model, state));
      await expect(failed).rejects.toThrow(ArgumentError);
      await expect(failed).rejects.toThrow(message);
      expect(backend().statistics().liveBuffers).toBe(liveBuffers);
      expect(state.position).toBe(0);
      for (const one of [state, model, other]) one.dispose();
    },
  );

  test.each(Object.keys(uses))('of another backend, disposed, or of two sequences: %s says so', async (use) => {
    const elsewhere = await openBackend('reference');
    const [model, other] = [smallModel(backend(), sized), smallModel(elsewhere, sized)];
    const states = [other.newState(1), model.newState(1), model.newState(2)] as const;
    states[1].dispose();
    const messages = [/state is on another: reference .*; expected one on the model’s backend, cpu/, /: the state was disposed/, /sequences/];
    for (const [i, state] of states.entries()) {
      if (use === 'decoder' && i === 2) continue;
      const failed = Promise.resolve().then(() => uses[use]?.(model, state));
      await expect(failed).rejects.toThrow(messages[i]);
      await expect(failed).rejects.toThrow(i === 1 ? DisposedError : ArgumentError);
    }
    for (const one of [...states, model, other]) one.dispose();
    expect(elsewhere.statistics().liveBuffers).toBe(0);
    await elsewhere.close();
  });

  test('a state that was restored is the model’s that restored it', async () => {
    const [model, other] = [smallModel(backend(), sized), smallModel(backend(), sized)];
    const state = model.newState(1);
    const logits = await prefill(model, [1, 2, 3], state);
    const restored = await State.restore(model, await state.serialize());
    expect(restored.position).toBe(3);
    const [next, same] = [await prefill(model, [4], state), await prefill(model, [4], restored)];
    expect(same).toEqual(next);
    expect(same).not.toEqual(logits);
    await expect(prefill(other, [4], restored)).rejects.toThrow(/another model’s of the same sizes/);
    for (const one of [state, restored, model, other]) one.dispose();
  });

  test('a disposed state’s own methods say so', async () => {
    const model = smallModel(backend());
    const [state, other] = [model.newState(1), model.newState(1)];
    state.dispose();
    for (const call of [() => state.copy(), () => state.reserve(1), () => state.truncate(0), () => state.assign(other)]) expect(call).toThrow(/^State\.\w+: the state was disposed$/);
    await expect(state.serialize()).rejects.toThrow(new DisposedError('State.serialize: the state was disposed'));
    other.dispose();
    model.dispose();
    expect(() => model.newState(1)).toThrow(new DisposedError('newState: the model was disposed'));
  });
});

describe.each(['native', 'wasm'] as const)('a state that something uses, %s', (kind) => {
  const backend = useMemoryKind(kind);
  const prompt = [...randomIds(9, 23)];

  test('a generation has it to itself; a copy goes on as it would have', async () => {
    const model = smallModel(backend(), { tiedHead: false });
    const state = model.newState(1);
    const options = { temperature: 0, maxTokens: 6 };
    const whole: number[] = [];
    for await (const id of generateTokens(model, prompt, options)) whole.push(id);

    const tokens = generateTokens(model, prompt, { ...options, state });
    const first = [(await tokens.next()).value, (await tokens.next()).value];
    const decoder = new Decoder(model, state);
    const others: [string, () => Promise<unknown>][] = [
      ['generate', () => generateTokens(model, prompt, { state }).next()],
      ['prefill', () => prefill(model, prompt, state)],
      ['step', () => decoder.step([1])],
    ];
    for (const [operation, use] of others) {
      const refused = use();
      await expect(refused).rejects.toThrow(ArgumentError);
      await expect(refused).rejects.toThrow(`${operation}: state is in use by a generation; expected a state that nothing else is changing. Hint: copy()`);
    }
    const copy = state.copy();
    expect(copy.position).toBe(prompt.length + 1);
    const rest: number[] = [];
    for await (const id of generateTokens(model, [first[1] as number], { ...options, state: copy, maxTokens: 4 })) rest.push(id);
    expect([...first, ...rest]).toEqual(whole);
    for await (const id of tokens) first.push(id);
    expect(first).toEqual(whole);

    // Given back: also when a generation is left, or fails.
    const left = generateTokens(model, prompt, { state });
    await left.next();
    await left.return();
    await expect(generateTokens(model, [99], { state }).next()).rejects.toThrow(/ids\[0\]/);
    await decoder.step([1]);
    for (const one of [decoder, copy, state, model]) one.dispose();
  });

  test.each([
    ['prefill', (model: LanguageModel, state: State) => prefill(model, prompt, state)],
    ['generate', (model: LanguageModel, state: State) => generateTokens(model, prompt, { state }).next()],
  ])('two at once: %s', async (_name, begin) => {
    const model = smallModel(backend());
    const state = model.newState(1);
    const [first, second] = await Promise.allSettled([begin(model, state), begin(model, state)]);
    expect(first.status).toBe('fulfilled');
    expect(second).toMatchObject({ status: 'rejected', reason: { message: expect.stringContaining('state is in use by a') as string } });
    expect(state.position).toBe(prompt.length);
    for (const one of [state, model]) one.dispose();
  });

  test('steps begun at once are taken in order, each with its own logits', async () => {
    const model = smallModel(backend(), { tiedHead: false });
    const states = [model.newState(1), model.newState(1)] as const;
    const decoders = states.map((state) => new Decoder(model, state)) as [Decoder, Decoder];
    const apart: Float32Array[] = [];
    for (const id of [1, 2, 3]) apart.push(Float32Array.from(await decoders[0].step([id])));
    expect(await Promise.all([1, 2, 3].map((id) => decoders[1].step([id])))).toEqual(apart);
    for (const one of [...decoders, ...states, model]) one.dispose();
    await expect(decoders[0].step([1])).rejects.toThrow(new DisposedError('step: the decoder was disposed'));
  });
});
