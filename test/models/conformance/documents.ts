import { test } from 'vitest';
import { Decoder, prefill } from '../../../src/generate/index.js';
import type { LanguageModel } from '../../../src/models/index.js';
import { expectClose } from '../../support/compare.js';
import { lossAndGradients, type LossAndGradients } from '../../support/gradients.js';
import { leftPadded, packed, type Layout } from '../../support/layouts.js';
import { read } from '../../support/models.js';
import { ids, limit, rowsOf, type Subject } from './subject.js';

const padding = 4;

/** Documents in one row, or padded in a batch, give what they give one by one. */
export function checkDocuments({ withModel, input }: Subject): void {
  const lossOf = (model: LanguageModel, { ids: all, targets, starts, shape }: Layout): Promise<LossAndGradients> =>
    lossAndGradients(model, () => model.loss(input(all, shape), input(targets, shape), { sequenceStarts: input(starts, shape) }));

  /** The loss of all predictions and its gradients, worked out a document at a time. */
  async function documentByDocument(model: LanguageModel, { documents, targets }: Layout): Promise<LossAndGradients> {
    const predictions = targets.filter((id) => id >= 0).length;
    let loss = 0;
    const gradients = new Map<string, Float64Array>();
    for (const { ids: document } of documents) {
      if (document.length < 2) continue;
      const weight = (document.length - 1) / predictions;
      const alone = await lossOf(model, packed([document]));
      loss += weight * alone.loss;
      for (const [key, gradient] of alone.gradients) {
        gradients.set(key, gradient.map((value, i) => weight * value + (gradients.get(key)?.[i] ?? 0)));
      }
    }
    return { loss, gradients };
  }

  test.each([
    ['packed documents', packed([ids.subarray(0, 1), ids.subarray(1, 3), ids.subarray(3, 20), ids.subarray(20)])],
    ['a left-padded batch', leftPadded([ids.subarray(0, 19), ids.subarray(19, 31), ids.subarray(31, 32), ids.subarray(32)], padding)],
  ])('%s: logits, loss and gradients of each document by itself', (_, layout) =>
    withModel(async (model) => {
      const { ids: all, starts, shape, documents } = layout;
      const logits = await read(() => model.forward(input(all, shape), { sequenceStarts: input(starts, shape) }));
      for (const { ids: document, at } of documents) {
        const alone = await read(() => model.forward(input(document)));
        expectClose(rowsOf(logits, at, at + document.length), alone, limit, `logits of the document at ${at}`);
      }
      const [together, apart] = [await lossOf(model, layout), await documentByDocument(model, layout)];
      expectClose([together.loss], [apart.loss], limit, 'loss');
      for (const { key } of model.parameters) {
        expectClose(together.gradients.get(key) ?? [], apart.gradients.get(key) ?? [NaN], 4 * limit, `gradient of ${key}`);
      }
    }));

  test('a left-padded batch goes on as its rows do', () =>
    withModel(async (model) => {
      const rows = [ids.subarray(0, 11), ids.subarray(11, 13), ids.subarray(13, 20)];
      const { ids: all, starts, shape } = leftPadded(rows, padding);
      const [batch, singles] = [model.newState(rows.length), rows.map(() => model.newState(1))];
      const last = await read(() => model.forwardLast(input(all, shape), { state: batch, sequenceStarts: input(starts, shape) }));
      for (const [i, state] of singles.entries()) {
        expectClose(rowsOf(last, i, i + 1), await prefill(model, rows[i] ?? [], state), limit, `after prompt ${i}`);
      }
      const [together, apart] = [new Decoder(model, batch), singles.map((state) => new Decoder(model, state))];
      for (let t = 20; t < 23; t++) {
        const next = rows.map((_, i) => ids[t + 3 * i] ?? 0);
        const logits = Float64Array.from(await together.step(next));
        for (const [i, decoder] of apart.entries()) {
          expectClose(rowsOf(logits, i, i + 1), await decoder.step([next[i] ?? 0]), limit, `row ${i}, id ${t}`);
        }
      }
      for (const one of [together, ...apart, batch, ...singles]) one.dispose();
    }));
}
