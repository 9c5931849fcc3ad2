import { expect, test } from 'vitest';
import { splitDocuments, splitText, type Batch } from '../../src/data/index.js';
import type { LanguageModel } from '../../src/models/index.js';
import { defaultTrainingOptions, nextToken, Trainer, type Objective } from '../../src/train/index.js';
import { useBackend } from '../support/backends.js';
import { MemoryDocuments } from '../support/documents.js';
import { idTensor, randomIds, smallModel } from '../support/models.js';

const backend = useBackend('cpu');
const options = { ...defaultTrainingOptions(4), batchSize: 2, length: 12 };

/** Next-token prediction of a model that the trainer cannot know for a language model; `loss` frees nothing by itself. */
function own(model: LanguageModel): Objective<Pick<LanguageModel, 'backend' | 'parameters'>> {
  const put = (ids: Int32Array) => idTensor(model.backend, ids, [options.batchSize, options.length]);
  return {
    ...nextToken(model, options),
    model: { backend: model.backend, parameters: model.parameters },
    loss: ({ inputs, targets, starts }: Batch, state) =>
      model.loss(put(inputs), put(targets), { ...(starts === undefined ? {} : { sequenceStarts: put(starts) }), ...(state === null ? {} : { state }) }),
  };
}

const tokens = randomIds(400, 23);

test.each([
  ['a text', splitText(tokens, 0.4)],
  ['documents, with the state carried over', splitDocuments(new MemoryDocuments(Array.from({ length: 12 }, (_, i) => tokens.subarray(33 * i, 33 * i + 33))), 0.4)],
])('an objective of one’s own on %s trains and evaluates as the language model does', async (_, data) => {
  const results = [];
  for (const trained of ['model', 'objective'] as const) {
    const model = smallModel(backend());
    const trainer = trained === 'model' ? new Trainer(model, data, options) : new Trainer(own(model), data, options);
    const losses = [];
    for (let step = 0; step < 4; step++) losses.push((await trainer.trainStep()).loss);
    results.push({ losses, ...(await trainer.evaluate()) });
    trainer.dispose();
    model.dispose();
  }
  const [model, objective] = results;
  expect(objective?.losses).toEqual(model?.losses);
  expect(objective?.tokens).toBe(model?.tokens);
  expect(objective?.loss).toBeCloseTo(model?.loss ?? NaN, 5);
});
