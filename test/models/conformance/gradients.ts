import { expect, test } from 'vitest';
import type { LanguageModel } from '../../../src/models/index.js';
import { scope } from '../../../src/tensor/index.js';
import { Random } from '../../../src/util/random.js';
import { expectClose } from '../../support/compare.js';
import { lossAndGradients, type LossAndGradients } from '../../support/gradients.js';
import { idTensor, randomIds } from '../../support/models.js';
import { limit, vocabulary, type Subject } from './subject.js';

const shape = [2, 13];
const [before, inputs, targets] = [1, 2, 3].map((seed) => randomIds(26, vocabulary, seed)) as [Int32Array, Int32Array, Int32Array];
targets.set([-1, -1], 9);
const starts = Int32Array.from({ length: 26 }, (_, i) => (i === 4 || i === 19 ? 1 : 0));

/** `body` with the loss of two rows that go on from a state, with a document's start in each. */
async function withLoss<T>(model: LanguageModel, body: (loss: (options?: { recompute?: boolean }) => ReturnType<LanguageModel['loss']>) => Promise<T>): Promise<T> {
  const on = (values: Int32Array) => idTensor(model.backend, values, shape);
  const first = model.newState(2);
  scope(() => model.hidden(on(before), { state: first })).dispose();
  try {
    return await body((options = {}) =>
      scope(() => {
        // The loss moves the state that it is given.
        const state = first.copy();
        try {
          return model.loss(on(inputs), on(targets), { state, sequenceStarts: on(starts), ...options });
        } finally {
          state.dispose();
        }
      }),
    );
  } finally {
    first.dispose();
  }
}

const gradientsOf = (model: LanguageModel) => withLoss(model, (loss) => lossAndGradients(model, () => loss()));

/** What the reference backend gives, by family and variant: worked out once for all backends. */
const expected = new Map<string, LossAndGradients>();

/** Gradients by every parameter are those of the reference backend, and these are the slopes of its loss. */
export function checkGradients({ row, variant, kind, reference, withModel }: Subject): void {
  const key = `${row.name} ${JSON.stringify(variant.options)}`;

  test('blocks that are run again give the same to the bit', () =>
    withModel((model) =>
      withLoss(model, async (loss) => {
        const [once, again] = [await lossAndGradients(model, () => loss()), await lossAndGradients(model, () => loss({ recompute: true }))];
        expect(again.loss).toBe(once.loss);
        if (!model.blocks.some(({ stages }) => stages.some(({ length }) => length > 1))) expect(again).toEqual(once);
        // A stream that three read has its gradients added up in another order.
        else for (const [name, gradient] of again.gradients) expectClose(gradient, once.gradients.get(name) ?? [], limit, name);
      }),
    ));

  if (kind === 'reference') {
    test('gradients are the slopes of the loss', () =>
      withModel((model) =>
        withLoss(model, async (loss) => {
          const result = await lossAndGradients(model, () => loss());
          expected.set(key, result);
          const lossNow = async () => {
            const value = loss();
            const number = await value.item();
            value.dispose();
            return number;
          };
          for (const [name, gradient] of result.gradients) {
            const parameter = model.parameters.find((one) => one.key === name);
            const values = (await parameter?.tensor.exactData()) ?? new Float64Array();
            const random = new Random(name.length);
            const direction = values.map(() => random.normal());
            const lossAt = (distance: number) => {
              parameter?.tensor.write(values.map((value, i) => value + distance * (direction[i] ?? 0)));
              return lossNow();
            };
            const slope = ((await lossAt(1e-5)) - (await lossAt(-1e-5))) / 2e-5;
            parameter?.tensor.write(values);
            const expectedSlope = gradient.reduce((sum, value, i) => sum + value * (direction[i] ?? 0), 0);
            expect(Math.abs(slope - expectedSlope), `slope of ${name}`).toBeLessThan(1e-7 + 1e-5 * Math.abs(slope));
          }
        }),
      ));
    return;
  }

  test('loss and gradients by every parameter are the reference’s', () =>
    withModel(async (model) => {
      const there = expected.get(key) ?? (await onReference());
      const here = await gradientsOf(model);
      expectClose([here.loss], [there.loss], limit, 'loss');
      for (const { key: name } of model.parameters) {
        expectClose(here.gradients.get(name) ?? [], there.gradients.get(name) ?? [NaN], 4 * limit, `gradient of ${name}`);
      }
    }));

  async function onReference(): Promise<LossAndGradients> {
    const model = row.make(reference(), variant.options);
    try {
      return await gradientsOf(model);
    } finally {
      model.dispose();
    }
  }
}
