import { expect, test } from 'vitest';
import { Decoder } from '../../../src/generate/index.js';
import { LanguageModel, loadModel, saveModel } from '../../../src/models/index.js';
import { packedParameters, weightFormat } from '../../../src/models/packing.js';
import { packedDTypes, type Tensor } from '../../../src/tensor/index.js';
import { expectClose } from '../../support/compare.js';
import { useFolder } from '../../support/folders.js';
import { idTensor, randomIds, read } from '../../support/models.js';
import { ids, limit, vocabulary, type Subject } from './subject.js';

/** How far a format moves the logits of a small model, relative to the largest: about three times what is measured. */
const farthest = { bf16: 0.03, int8: 0.05, int4: 0.6 };

/** The same where a token may go through another expert. */
const farthestElsewhere = 0.6;

/** A model can be saved, loaded and packed. */
export function checkCheckpoints({ row, kind, backend, withModel, input }: Subject): void {
  const path = useFolder();
  const logitsOf = (model: LanguageModel) => read(() => model.forward(input(ids)));

  test('saved and loaded: the same config, weights and logits', () =>
    withModel(async (model) => {
      await saveModel(model, path('whole'));
      const loaded = await loadModel(path('whole'), backend());
      expect(loaded.family).toBe(model.family);
      expect(loaded.config).toEqual(model.config);
      expect(await loaded.fingerprint()).toBe(await model.fingerprint());
      expectClose(await logitsOf(loaded), await logitsOf(model), 0, 'logits');
      loaded.dispose();
    }));

  // The reference backend takes long, and has the other formats' kernels in the operations' tests.
  test.each(kind === 'reference' ? (['int4'] as const) : packedDTypes)('packed as %s: formats, logits, steps, and its checkpoint', (dtype) =>
    withModel(async (model) => {
      const weights = new Map(model.parameters.map(({ key, tensor }) => [key, tensor]));
      const packed = new LanguageModel(model.family, model.config, backend(), packedParameters((key) => (weights.get(key) as Tensor).retain(), dtype));
      const formats = packed.parameters.map(({ key, packing, tensor }) => {
        expect(tensor.dtype, key).toBe(weightFormat(packing, dtype));
        // Step sizes decide how long a state remembers: four bits are too few.
        if (key.endsWith('dt_proj.weight')) expect(tensor.dtype, key).toBe(dtype === 'int4' ? 'int8' : dtype);
        return tensor.dtype;
      });
      expect(formats).toContain(dtype);
      expectClose(await logitsOf(packed), await logitsOf(model), row.chooses === true ? farthestElsewhere : farthest[dtype], 'logits');

      const sequences = [1, 2, 3].map((seed) => randomIds(9, vocabulary, seed));
      const all = Int32Array.from(sequences.flatMap((sequence) => [...sequence]));
      const whole = await read(() => packed.forwardLast(idTensor(backend(), all, [3, 9])));
      const state = packed.newState(3);
      const decoder = new Decoder(packed, state);
      let stepped: ArrayLike<number> = [];
      for (let t = 0; t < 9; t++) stepped = await decoder.step(sequences.map((sequence) => sequence[t] ?? 0));
      // Rounded weights make a small random model twitchier, not the kernels less exact.
      expectClose(stepped, whole, 8 * limit, 'logits after steps');
      for (const one of [decoder, state]) one.dispose();

      await saveModel(packed, path(dtype));
      const loaded = await loadModel(path(dtype), backend());
      expect(loaded.config).toEqual(model.config);
      expect(loaded.parameters.map(({ tensor }) => tensor.dtype)).toEqual(formats);
      expect(await loaded.fingerprint()).toBe(await packed.fingerprint());
      loaded.dispose();
      packed.dispose();
    }));
}
