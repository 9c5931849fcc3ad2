import { describe, expect, test } from 'vitest';
import { valueAndGradients } from '../../src/autograd/index.js';
import { mambaFamily } from '../../src/models/index.js';
import { scope, tensor } from '../../src/tensor/index.js';
import { compiledKernels, useBackend } from '../support/backends.js';
import { expectClose, tolerance } from '../support/compare.js';
import { idTensor, randomIds, read, smallConfig, smallModel, mixerOf } from '../support/models.js';

const ids = randomIds(2 * 19, 23);
const targets = randomIds(2 * 19, 23, 6);

describe('time-invariant mixers', () => {
  const reference = useBackend('reference');

  test('have Δ, B and C as parameters, under keys of their own', () => {
    const model = smallModel(reference(), { ssm: 'lti' });
    const prefix = 'backbone.layers.0.mixer.';
    const keys = model.parameters.filter(({ key }) => key.startsWith(prefix)).map(({ key, tensor }) => [key.slice(prefix.length), tensor.shape]);
    expect(Object.fromEntries(keys)).toMatchObject({ dt_bias: [40], B: [5], C: [5], A_log: [40, 5], D: [40] });
    expect(keys.map(([key]) => key)).not.toContain('x_proj.weight');
    model.dispose();
  });

  test('config.json says so, and to other programs it is another kind of model', () => {
    const config = smallConfig({ ssm: 'lti' });
    const json = mambaFamily.write(config);
    expect(json).toMatchObject({ model_type: 'elapid-mamba-lti' });
    expect(json).not.toHaveProperty('architectures');
    expect(mambaFamily.read(json, 'config.json', () => undefined)).toEqual(config);
    expect(mambaFamily.read(mambaFamily.write(smallConfig()), 'config.json', () => undefined).ssm).toBe('s6');
  });

  test('mix linearly in the scan’s input, alike at every position', async () => {
    const model = smallModel(reference(), { ssm: 'lti' });
    const u = tensor(reference(), Float32Array.from({ length: 3 * 40 }, (_, i) => Math.sin(i)), [1, 3, 40]);
    for (const name of ['delta', 'B', 'C'] as const) {
      const values = await read(() => mixerOf(model, 0).selection.select(u, {})[name]);
      const width = values.length / 3;
      for (const t of [1, 2]) expect(values.subarray(t * width, (t + 1) * width)).toEqual(values.subarray(0, width));
    }
    u.dispose();
    model.dispose();
  });

  test('gradients are the slopes of the loss', async () => {
    const model = smallModel(reference(), { ssm: 'lti' });
    const loss = () => model.loss(idTensor(reference(), ids, [2, 19]), idTensor(reference(), targets, [2, 19]));
    for (const name of ['dt_bias', 'B', 'C', 'A_log']) {
      const { tensor: parameter } = model.parameters.find(({ key }) => key === `backbone.layers.1.mixer.${name}`) as (typeof model.parameters)[0];
      const { value, gradients: [gradient] } = scope(() => valueAndGradients([parameter], loss));
      const slopes = [...((await gradient?.exactData()) ?? [])];
      const values = [...(await parameter.exactData())];
      for (const element of [0, 3]) {
        const at = async (change: number) => {
          parameter.write(values.map((v, i) => (i === element ? v + change : v)));
          return (await read(loss))[0] ?? NaN;
        };
        const slope = ((await at(1e-3)) - (await at(-1e-3))) / 2e-3;
        expect(Math.abs((slopes[element] ?? NaN) - slope), name).toBeLessThan(1e-5 + 1e-3 * Math.abs(slope));
      }
      parameter.write(values);
      gradient?.dispose();
      value.dispose();
    }
    model.dispose();
  });

  describe.each(compiledKernels)('on %s', (kernels) => {
    const backend = useBackend('cpu', { kernels });

    test('equal the reference, forward and backward', async () => {
      const results = [];
      for (const where of [reference(), backend()]) {
        const model = smallModel(where, { ssm: 'lti' });
        const { value, gradients } = scope(() =>
          valueAndGradients(
            model.parameters.map((parameter) => parameter.tensor),
            () => model.loss(idTensor(where, ids, [2, 19]), idTensor(where, targets, [2, 19])),
          ),
        );
        const read = [await value.exactData()];
        for (const gradient of gradients) read.push((await gradient?.exactData()) ?? new Float64Array());
        for (const made of [value, ...gradients]) made?.dispose();
        results.push(read);
        model.dispose();
      }
      const [expected = [], actual = []] = results;
      for (const [i, values] of expected.entries()) expectClose(actual[i] ?? [], values, tolerance(38 * 20), `result ${i}`);
    });
  });
});
