import { describe, expect, test } from 'vitest';
import { valueAndGradients } from '../../src/autograd/index.js';
import { Mamba, MambaMixer, mambaMixerConfig } from '../../src/mixers/index.js';
import { initialParameters, ParameterStore } from '../../src/nn/index.js';
import { sum } from '../../src/ops/index.js';
import { scope, tensor } from '../../src/tensor/index.js';
import { useBackend } from '../support/backends.js';
import { expectClose } from '../support/compare.js';

const x = Float32Array.from({ length: 2 * 7 * 16 }, (_, i) => Math.sin(i));

describe('a Mamba layer by itself', () => {
  const backend = useBackend('cpu');

  test('computes what the mixer of a model with the same weights computes, and has its gradients', async () => {
    const layer = new Mamba({ dModel: 16, dState: 16, dConv: 4, expand: 2, seed: 3 }, backend());
    const store = new ParameterStore(initialParameters(backend(), 3));
    const mixer = new MambaMixer(store, mambaMixerConfig({ dModel: 16, layers: 1 }));
    expect(layer.parameters.map(({ key }) => key)).toEqual(store.all.map(({ key }) => key));
    const input = tensor(backend(), x, [2, 7, 16]);
    const y = layer.forward(input);
    expect(y.shape).toEqual([2, 7, 16]);
    const expected = mixer.forward(input);
    expect(await y.data()).toEqual(await expected.data());
    const of = (forward: () => typeof y, parameters: typeof store.all) =>
      scope(() => valueAndGradients([input, ...parameters.map((parameter) => parameter.tensor)], () => sum(forward())));
    const [ours, theirs] = [of(() => layer.forward(input), layer.parameters), of(() => mixer.forward(input), store.all)];
    for (const [i, gradient] of ours.gradients.entries()) {
      expectClose((await gradient?.data()) ?? [], (await theirs.gradients[i]?.data()) ?? [NaN], 1e-6, store.all[i - 1]?.key ?? 'x');
    }
    for (const made of [input, y, expected, layer, ...store.all.map((parameter) => parameter.tensor), ours.value, theirs.value, ...ours.gradients, ...theirs.gradients]) made?.dispose();
    expect(backend().statistics().liveBuffers).toBe(0);
  });

  test.each([
    [[2, 7, 15], 'Mamba.forward: x is [2,7,15]; expected [B,L,16].'],
    [[7, 16], 'Mamba.forward: x is [7,16]; expected [B,L,16].'],
  ] as const)('refuses an input %j', (shape, message) => {
    const layer = new Mamba({ dModel: 16 }, backend());
    const input = tensor(backend(), new Float32Array(shape.reduce<number>((a, b) => a * b, 1)), shape);
    expect(() => layer.forward(input)).toThrow(message);
    input.dispose();
    layer.dispose();
    expect(backend().statistics().liveBuffers).toBe(0);
  });
});
