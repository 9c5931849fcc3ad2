import { expect, test } from 'vitest';
import { Decoder, prefill } from '../../../src/generate/index.js';
import type { LanguageModel } from '../../../src/models/index.js';
import type { Linear } from '../../../src/nn/index.js';
import { linear as multiply, zeros } from '../../../src/ops/index.js';
import { tensor, type Tensor } from '../../../src/tensor/index.js';
import { Random } from '../../../src/util/random.js';
import { expectClose, relativeError } from '../../support/compare.js';
import { lossAndGradients } from '../../support/gradients.js';
import { read } from '../../support/models.js';
import { ids, limit, rowsOf, vocabulary, type Subject } from './subject.js';

const text = ids.subarray(0, 9);
const next = ids.subarray(1, 10);

/** What is added to a linear layer is added on every path, the fused ones too. */
export function checkAdapters({ backend, withModel, input }: Subject): void {
  const adaptByZeros = (linear: Linear): void => {
    const outputs = linear.weight.tensor.shape[0] ?? 0;
    linear.added = (x) => zeros(backend(), [...x.shape.slice(0, -1), outputs]);
  };
  /** @returns the adapter's weight, for the caller to dispose */
  const adaptAtRandom = (linear: Linear): Tensor => {
    const { shape, size } = linear.weight.tensor;
    const random = new Random(size);
    const weight = tensor(backend(), Float32Array.from({ length: size }, () => 0.5 * random.normal()), shape);
    linear.added = (x) => multiply(x, weight);
    return weight;
  };

  /** What every path of a model gives for a text. */
  async function everyPath(model: LanguageModel) {
    const logits = await read(() => model.forward(input(text)));
    const state = model.newState(1);
    const decoder = new Decoder(model, state);
    const steps: number[] = [];
    for (const id of text) steps.push(...(await decoder.step([id])));
    const other = model.newState(1);
    const last = await prefill(model, text, other, { chunkLength: 4 });
    for (const one of [decoder, state, other]) one.dispose();
    const losses = await read(() => model.tokenLosses(input(text), input(next)));
    const loss = await read(() => lossOf(model));
    return { logits, steps, last, losses, loss };
  }

  const lossOf = (model: LanguageModel) => model.loss(input(text), input(next));

  test('zeros on every linear layer change nothing', () =>
    withModel(async (model) => {
      const [plain, { gradients }] = [await everyPath(model), await lossAndGradients(model, () => lossOf(model))];
      for (const linear of model.linears.values()) adaptByZeros(linear);
      const [adapted, after] = [await everyPath(model), await lossAndGradients(model, () => lossOf(model))];
      for (const path of ['logits', 'steps', 'last', 'losses', 'loss'] as const) expectClose(adapted[path], plain[path], limit, path);
      for (const [key, gradient] of gradients) expectClose(after.gradients.get(key) ?? [], gradient, 4 * limit, `gradient of ${key}`);
    }));

  test('an adapter of each layer has its effect, the same on every path', () =>
    withModel(async (model) => {
      const plain = await read(() => model.forward(input(text)));
      expect(model.linears.size).toBeGreaterThan(0);
      for (const [key, linear] of model.linears) {
        const weight = adaptAtRandom(linear);
        const { logits, steps, last, losses, loss } = await everyPath(model);
        expect(relativeError(logits, plain), `effect of ${key}`).toBeGreaterThan(10 * limit);
        expectClose(steps, logits, limit, `steps, ${key}`);
        expectClose(last, rowsOf(logits, text.length - 1, text.length), limit, `prompt, ${key}`);
        const expected = Float64Array.from(text, (_, t) => crossEntropyOf(rowsOf(logits, t, t + 1), next[t] ?? 0));
        expectClose(losses, expected, limit, `token losses, ${key}`);
        expectClose(loss, [expected.reduce((sum, value) => sum + value, 0) / text.length], limit, `loss, ${key}`);
        linear.added = null;
        weight.dispose();
      }
      expect(await read(() => model.forward(input(text)))).toEqual(plain);
    }));

  test('no fused step where a layer has an adapter', () =>
    withModel((model) => {
      const fused = () => model.blocks.map(({ sublayers }) => sublayers.map(({ norm, mixer }) => (mixer.fuse?.(norm) ?? null) !== null));
      const without = fused();
      for (const [key, linear] of model.linears) {
        const [, layer, part] = /layers\.(\d+)\.(\w+)\./.exec(key) ?? [];
        adaptByZeros(linear);
        const expected = model.blocks.map(({ sublayers }, i) => sublayers.map(({ name }, j) => without[i]?.[j] === true && !(String(i) === layer && name === part)));
        expect(fused(), key).toEqual(expected);
        linear.added = null;
      }
      return Promise.resolve();
    }));
}

/** Cross-entropy of a target under logits. */
function crossEntropyOf(logits: Float64Array, target: number): number {
  expect(logits).toHaveLength(vocabulary);
  const largest = Math.max(...logits);
  return largest + Math.log(logits.reduce((sum, value) => sum + Math.exp(value - largest), 0)) - (logits[target] ?? NaN);
}
