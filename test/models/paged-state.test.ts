/** States whose memory grows with the sequence: pages are shared, copied on writing, given back. */
import { describe, expect, test } from 'vitest';
import { Decoder, generateTokens, prefill } from '../../src/generate/index.js';
import { parseSafetensors } from '../../src/io/index.js';
import { LanguageModel, State, transformerFamily } from '../../src/models/index.js';
import { ArgumentError } from '../../src/util/errors.js';
import { useBackend } from '../support/backends.js';
import { expectClose } from '../support/compare.js';
import { randomIds } from '../support/models.js';

const sizes = { vocabularySize: 23, dModel: 16, layers: 2, heads: 2, kvHeads: 1, contextLength: 4096 };
/** Bytes of a page: keys and values of 2 layers, 64 positions of 1 head of 8 numbers in float32. */
const page = 2 * 2 * 64 * 8 * 4;
const ids = randomIds(300, 23);

describe.each(['native', 'wasm'] as const)('a state that grows, %s', (kernels) => {
  const backend = useBackend('cpu', kernels === 'wasm' ? { kernels: 'wasm' } : {});

  async function withModel(body: (model: LanguageModel) => Promise<void>): Promise<void> {
    const model = LanguageModel.initial(transformerFamily, transformerFamily.configOf(sizes), backend(), 1);
    try {
      await body(model);
    } finally {
      model.dispose();
    }
  }

  test('bytes are those of whole pages', () =>
    withModel(async (model) => {
      expect([0, 1, 64, 65, 1000].map((positions) => State.sizeBytes(model, positions) / page)).toEqual([0, 1, 1, 2, 16]);
      const state = model.newState(1);
      expect(state.bytes).toEqual({ own: 0, shared: 0 });
      await prefill(model, ids.subarray(0, 130), state);
      expect(state.bytes).toEqual({ own: 3 * page, shared: 0 });
      state.dispose();
    }));

  test('in f16 a page takes half, and files keep the dtype', () =>
    withModel(async (model) => {
      const half = { cacheDType: 'f16' } as const;
      expect([1, 65, 1000].map((positions) => State.sizeBytes(model, positions, half) / page)).toEqual([0.5, 1, 8]);
      const [wide, state] = [model.newState(1), model.newState(1, half)];
      expect([wide.cacheDType, state.cacheDType]).toEqual(['f32', 'f16']);
      const right = await prefill(model, ids.subarray(0, 130), wide, { chunkLength: 50 });
      const logits = await prefill(model, ids.subarray(0, 130), state, { chunkLength: 50 });
      expectClose(logits, right, 2e-3, 'logits');
      expect(Array.from(logits)).not.toEqual(Array.from(right));
      expect(state.bytes).toEqual({ own: 1.5 * page, shared: 0 });
      const bytes = await state.serialize();
      const { tensors } = parseSafetensors(bytes, 'state');
      expect([...tensors].map(([key, { dtype, shape }]) => [key, dtype, shape.join()])).toEqual(
        ['0.keys', '0.values', '1.keys', '1.values'].map((key) => [key, 'F16', '1,130,1,8']),
      );
      const others = [await State.restore(model, bytes), state.copy(), model.newState(1)];
      others[2]?.assign(state);
      expect(others.map(({ cacheDType }) => cacheDType)).toEqual(['f16', 'f16', 'f32']);
      const next = await prefill(model, ids.subarray(130, 140), state);
      for (const other of others) {
        expectClose(await prefill(model, ids.subarray(130, 140), other), next, 2e-3, 'next logits');
        other.dispose();
      }
      for (const one of [wide, state]) one.dispose();
    }));

  test.each(['f64', 'int8', 16])('%s is no dtype of keys and values', (cacheDType) =>
    withModel(async (model) => {
      expect(() => model.newState(1, { cacheDType: cacheDType as 'f16' })).toThrow('newState: cacheDType is ' + (typeof cacheDType === 'string' ? `'${cacheDType}'` : String(cacheDType)) + '; expected f32 or f16');
      const state = model.newState(1);
      const tokens = generateTokens(model, [1], { state, cacheDType: 'f16' });
      await expect(tokens.next()).rejects.toThrow('generate: cacheDType is f16; expected f32, as the given state’s');
      state.dispose();
    }),
  );

  test('a captured step goes on through every page and every move of the pool', () =>
    withModel(async (model) => {
      const [state, whole] = [model.newState(1), model.newState(1)];
      const decoder = new Decoder(model, state);
      const generations = new Set<number>();
      let logits: Float32Array = new Float32Array();
      for (const id of ids) {
        logits = await decoder.step([id]);
        generations.add(state.generation);
      }
      expect(generations.size).toBeGreaterThan(2);
      expectClose(logits, await prefill(model, ids, whole, { chunkLength: 77 }), 1e-5, 'logits');
      for (const one of [decoder, state, whole]) one.dispose();
    }));

  test('forks share whole pages, and go their own ways', () =>
    withModel(async (model) => {
      const state = model.newState(1);
      await prefill(model, ids.subarray(0, 100), state);
      const forks = [state.copy(), state.copy()];
      expect(state.bytes).toEqual({ own: 0, shared: 2 * page });
      const ends = [ids.subarray(100, 150), ids.subarray(150, 200), ids.subarray(200, 250)];
      for (const [i, fork] of [state, ...forks].entries()) {
        const alone = model.newState(1);
        const end = ends[i] as Int32Array;
        expectClose(await prefill(model, end, fork), await prefill(model, [...ids.subarray(0, 100), ...end], alone), 1e-5, `fork ${i}`);
        alone.dispose();
      }
      // The first page is everybody's still; the second was written to by each.
      for (const fork of [state, ...forks]) expect(fork.bytes).toEqual({ own: 2 * page, shared: page });
      for (const fork of forks) fork.dispose();
      expect(state.bytes).toEqual({ own: 3 * page, shared: 0 });
      state.dispose();
    }));

  test('goes back to an earlier position, and on from there', () =>
    withModel(async (model) => {
      const [state, other] = [model.newState(2), model.newState(1)];
      const decoder = new Decoder(model, state);
      const logits: Float32Array[] = [];
      for (const id of ids.subarray(0, 140)) logits.push(Float32Array.from(await decoder.step([id, 22 - id])));
      state.truncate(70);
      expect([state.position, state.bytes.own]).toEqual([70, 2 * 2 * page]);
      for (const [t, id] of ids.subarray(70, 140).entries()) expect(await decoder.step([id, 22 - id])).toEqual(logits[70 + t]);
      expect(() => { state.truncate(141); }).toThrow('State.truncate: position is 141; expected an integer from 0 to the state’s position, 140');
      for (const one of [decoder, state, other]) one.dispose();
    }));

  test('is assigned from a state of another pool', () =>
    withModel(async (model) => {
      const [one, other] = [model.newState(1), model.newState(1)];
      await prefill(model, ids.subarray(0, 90), one);
      await prefill(model, ids.subarray(0, 10), other);
      const decoder = new Decoder(model, other);
      other.assign(one);
      expect(await decoder.step([5])).toEqual(await prefill(model, [5], one));
      for (const made of [decoder, one, other]) made.dispose();
    }));

  test('is refused beyond the positions there can be', () =>
    withModel((model) => {
      const state = model.newState(1);
      expect(() => { state.reserve(2 ** 24 + 1); }).toThrow(ArgumentError);
      state.dispose();
      return Promise.resolve();
    }));
});
