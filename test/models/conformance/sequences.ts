import { expect, test } from 'vitest';
import { Decoder, prefill } from '../../../src/generate/index.js';
import { expectClose } from '../../support/compare.js';
import { randomIds, read } from '../../support/models.js';
import { ids, limit, rowsOf, vocabulary, type Subject } from './subject.js';

const { length } = ids;

/** A sequence gives the same whole, in pieces, a token at a time, and beside others. */
export function checkSequences({ withModel, input }: Subject): void {
  test('step by step equals the whole; a captured step equals a plain one to the bit', () =>
    withModel(async (model) => {
      const whole = await read(() => model.forward(input(ids)));
      const [state, plain] = [model.newState(1), model.newState(1)];
      const [decoder, prepared] = [new Decoder(model, state), model.prepare()];
      for (const [t, id] of ids.entries()) {
        const logits = await decoder.step([id]);
        expectClose(logits, rowsOf(whole, t, t + 1), limit, `logits at ${t}`);
        if (t < 5) expect(Float32Array.from(await read(() => model.step(input([id], [1]), plain, prepared)))).toEqual(logits);
      }
      expect(state.position).toBe(length);
      for (const one of [decoder, prepared, state, plain]) one.dispose();
    }));

  test('in pieces', () =>
    withModel(async (model) => {
      const whole = await read(() => model.forward(input(ids)));
      for (const pieces of [[1, 36], [36, 1], [1, 1, 1, 34], [17, 2, 16, 2], [5, 31, 1]]) {
        const state = model.newState(1);
        for (const size of pieces) {
          const at = state.position;
          const logits = await read(() => model.forward(input(ids.subarray(at, at + size)), { state }));
          expectClose(logits, rowsOf(whole, at, at + size), limit, `[${pieces.join()}], from ${at}`);
        }
        expect(state.position).toBe(length);
        state.dispose();
      }
    }));

  test('a prompt in chunks', () =>
    withModel(async (model) => {
      const whole = await read(() => model.forwardLast(input(ids)));
      for (const chunkLength of [1, 2, 3, 5, 16, 36, 37]) {
        const state = model.newState(1);
        expectClose(await prefill(model, ids, state, { chunkLength }), whole, limit, `last logits, chunks of ${chunkLength}`);
        expect(state.position).toBe(length);
        state.dispose();
      }
    }));

  test('a batch equals its rows one by one', () =>
    withModel(async (model) => {
      const both = randomIds(2 * length, vocabulary, 8);
      const batch = await read(() => model.forward(input(both, [2, length])));
      for (const row of [0, 1]) {
        const single = await read(() => model.forward(input(both.subarray(row * length, (row + 1) * length))));
        expectClose(rowsOf(batch, row * length, (row + 1) * length), single, limit, `row ${row}`);
      }
    }));
}
