/** MoE-Mamba in training, in float64 by an implementation whose layers equal the official ones: Mamba and experts in turn, with tokens dropped, and side by side. */
import { describe, expect, test } from 'vitest';
import { LanguageModel, loadModel, moeMambaFamily, readConfigFile } from '../../src/models/index.js';
import { Auxiliary } from '../../src/nn/index.js';
import { scope, tensor } from '../../src/tensor/index.js';
import { compiledKernels, gpuIsHere, useBackend } from '../support/backends.js';
import { expectClose } from '../support/compare.js';
import { Goldens, goldenPath } from '../support/goldens.js';
import { lossAndGradients } from '../support/gradients.js';
import { idTensor, read } from '../support/models.js';
import { isNight } from '../support/rare-cases.js';

/** Next-token targets of each row; the last position has none. */
const targetsOf = (ids: Int32Array, [rows = 0, length = 0]: readonly number[]): Int32Array =>
  Int32Array.from({ length: rows * length }, (_, i) => ((i + 1) % length === 0 ? -1 : (ids[i + 1] ?? -1)));

/** The files say which inputs their results are of. */
const onWarning = () => undefined;

const runs = [
  { on: 'reference', kind: 'reference' as const, options: {}, limit: 1e-10 },
  ...compiledKernels.map((kernels) => ({ on: kernels, kind: 'cpu' as const, options: { kernels }, limit: 1e-4 })),
  // A software GPU compiles gradients for half a minute: by day the layers' goldens stand for them.
  ...(gpuIsHere && isNight ? [{ on: 'webgpu', kind: 'webgpu' as const, options: {}, limit: 1e-4 }] : []),
];

describe.each(runs)('on $on', ({ kind, options, limit }) => {
  const backend = useBackend(kind, options);

  describe.each(['lm', 'lm-parallel'])('%s', (name) => {
    const folder = goldenPath(`moe-mamba/${name}`);
    const golden = new Goldens(`${folder}/golden.safetensors`);
    const weights = new Goldens(`${folder}/model.safetensors`);
    const [ids, shape] = [golden.integers('input_ids'), golden.shape('input_ids')];
    const input = (values = ids) => idTensor(backend(), values, shape);

    /** The weights as they are, in float64. */
    async function withModel(body: (model: LanguageModel) => Promise<void>): Promise<void> {
      const { config } = await readConfigFile(`${folder}/config.json`, onWarning);
      const model = new LanguageModel(moeMambaFamily, config as Parameters<typeof moeMambaFamily.build>[1], backend(), (key) => {
        const short = key.replace('backbone.', '');
        return tensor(backend(), weights.floats(short), weights.shape(short));
      });
      try {
        await body(model);
      } finally {
        model.dispose();
      }
    }

    test('logits, balance loss and dropped tokens', () =>
      withModel(async (model) => {
        const auxiliary = new Auxiliary();
        expectClose(await read(() => model.forward(input(), { auxiliary })), golden.floats('logits'), limit, 'logits');
        const { measures, losses } = await auxiliary.values();
        const dropped = [0, 1].map((i) => 1 - golden.bytes(`kept.${i}`).reduce((sum, kept) => sum + kept, 0) / ids.length);
        expect(Math.max(...dropped)).toBeGreaterThan(name === 'lm' ? 0.1 : -1);
        expectClose(measures['dropped'] ?? [], dropped, limit, 'dropped');
        expectClose([losses['balance'] ?? NaN], golden.floats('loss_aux'), limit, 'balance');
        auxiliary.dispose();
      }));

    test.each([false, true])('losses and every gradient, recomputed: %s', (recompute) =>
      withModel(async (model) => {
        const auxiliary = new Auxiliary();
        const { loss, gradients } = await lossAndGradients(model, () => scope(() => model.loss(input(), input(targetsOf(ids, shape)), { auxiliary, recompute })));
        const { losses } = await auxiliary.values();
        expectClose([loss, losses['balance'] ?? NaN], [...golden.floats('loss'), ...golden.floats('loss_aux')], limit, 'loss');
        expectClose([loss - (losses['balance'] ?? NaN)], golden.floats('loss_ce'), limit, 'cross-entropy');
        const keys = golden.keys.filter((key) => key.startsWith('grad.')).map((key) => key.slice('grad.'.length));
        expect([...gradients.keys()].map((key) => key.replace('backbone.', '')).sort()).toEqual(keys.sort());
        for (const [key, gradient] of gradients) expectClose(gradient, golden.floats(`grad.${key.replace('backbone.', '')}`), limit, key);
        auxiliary.dispose();
      }));
  });
});

describe('files', () => {
  const backend = useBackend('cpu', { kernels: 'auto' });

  test.each(['lm', 'lm-parallel'])('%s: loaded, it gives the loss without a capacity where nothing was dropped, and another where something was', async (name) => {
    const folder = goldenPath(`moe-mamba/${name}`);
    const golden = new Goldens(`${folder}/golden.safetensors`);
    const [ids, shape] = [golden.integers('input_ids'), golden.shape('input_ids')];
    const model = await loadModel(folder, backend(), { onWarning });
    expect(model.family.name).toBe('moe-mamba');
    const input = (values = ids) => idTensor(backend(), values, shape);
    const [all] = await read(() => model.loss(input(), input(targetsOf(ids, shape))));
    const kept = [0, 1].every((i) => golden.bytes(`kept.${i}`).every((one) => one === 1));
    const difference = Math.abs((all ?? NaN) - (golden.floats('loss_ce')[0] ?? NaN));
    if (kept) expect(difference).toBeLessThan(1e-5);
    else expect(difference).toBeGreaterThan(1e-4);
    model.dispose();
  });
});
