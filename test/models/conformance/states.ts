import { expect, test } from 'vitest';
import { Decoder, prefill } from '../../../src/generate/index.js';
import { State, type LanguageModel } from '../../../src/models/index.js';
import { formatShape, sameShape, type Shape } from '../../../src/tensor/index.js';
import { CheckpointError } from '../../../src/util/errors.js';
import { checkpointErrorOf } from '../../support/checkpoints.js';
import { expectClose } from '../../support/compare.js';
import { ids, limit, type Subject } from './subject.js';

const [prompt, rest] = [ids.subarray(0, 20), ids.subarray(20)];

/** A state can be forked, put back, and carried to another process; other models refuse it. */
export function checkStates({ row, variant, kind, backend, withModel }: Subject): void {
  test('a copy, and what it is assigned to, go on to the bit', () =>
    withModel(async (model) => {
      const state = model.newState(1);
      await prefill(model, prompt, state);
      const copy = state.copy();
      const decoder = new Decoder(model, state);
      const steps = async () => {
        const logits = [];
        for (const id of rest.subarray(0, 3)) logits.push(Float32Array.from(await decoder.step([id])));
        return logits;
      };
      const first = await steps();
      expect(state.position).toBe(23);
      // The captured step reads the state where it was.
      state.assign(copy);
      expect(state.position).toBe(20);
      expect(await steps()).toEqual(first);
      state.assign(copy);
      expect(await prefill(model, rest, copy)).toEqual(await prefill(model, rest, state));
      for (const one of [decoder, state, copy]) one.dispose();
    }));

  test('serialised and restored to the bit', () =>
    withModel(async (model) => {
      const state = model.newState(2);
      const decoder = new Decoder(model, state);
      for (const id of prompt) await decoder.step([id, 22 - id]);
      const bytes = await state.serialize();
      const restored = await State.restore(model, bytes);
      expect([restored.position, restored.batch]).toEqual([20, 2]);
      expect(await restored.serialize()).toEqual(bytes);
      const again = new Decoder(model, restored);
      for (const id of rest.subarray(0, 3)) {
        const logits = await decoder.step([id, id]);
        const expected = await again.step([id, id]);
        // The reference's own states are float64, and are rounded to float32 on the way.
        if (kind === 'reference') expectClose(expected, logits, limit, 'logits');
        else expect(expected).toEqual(logits);
      }
      for (const one of [decoder, again, state, restored]) one.dispose();
    }));

  test('another model’s is refused, and so are bytes that were cut', () =>
    withModel(async (model) => {
      const state = model.newState(1);
      const bytes = await state.serialize();
      const other = row.make(backend(), { ...variant.options, ...row.otherState });
      const [slot, shape] = firstDifference(model, other);
      const error = await checkpointErrorOf(() => State.restore(other, bytes));
      expect(error.message).toContain(`key '${slot}'`);
      expect(error.message).toContain(`expected F32 ${formatShape([1, ...shape])} for this model`);
      await expect(State.restore(model, bytes.subarray(0, 100))).rejects.toThrow(CheckpointError);
      for (const one of [state, other]) one.dispose();
    }));
}

/** The first slot of `other` that has another shape than the model's, and that shape, where there are no positions yet. */
function firstDifference(model: LanguageModel, other: LanguageModel): [slot: string, shape: Shape] {
  for (const [i, { slots }] of other.mixers.entries()) {
    for (const [name, { shape, perPosition }] of Object.entries(slots)) {
      if (!sameShape(shape, model.mixers[i]?.slots[name]?.shape ?? [])) return [`${i}.${name}`, perPosition === true ? [0, ...shape] : shape];
    }
  }
  throw new Error('the two models have the same slots');
}
