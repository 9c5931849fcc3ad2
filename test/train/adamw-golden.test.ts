import { describe, expect, test } from 'vitest';
import { valueAndGradients } from '../../src/autograd/index.js';
import { loadModel } from '../../src/models/index.js';
import { withoutScope } from '../../src/tensor/index.js';
import { FlatAdamW } from '../../src/train/index.js';
import { compiledKernels, useBackend } from '../support/backends.js';
import { expectClose } from '../support/compare.js';
import { Goldens, goldenPath } from '../support/goldens.js';
import { idTensor } from '../support/models.js';

const golden = new Goldens(goldenPath('hf-mamba-adamw.safetensors'));
const ids = golden.integers('ids');
const [steps = 0, batch = 0, row = 0] = golden.shape('ids');

const runs = [
  { name: 'reference', kind: 'reference' as const, options: {} },
  ...compiledKernels.map((kernels) => ({ name: kernels, kind: 'cpu' as const, options: { kernels } })),
];

describe.each(runs)('12 AdamW steps as PyTorch makes them, on $name', ({ kind, options }) => {
  const backend = useBackend(kind, options);

  test('losses, gradient norms and final parameters', async () => {
    const model = await loadModel(goldenPath('hf-mamba'), backend());
    const optimiser = new FlatAdamW(backend(), model.parameters, {
      beta1: 0.9,
      beta2: 0.95,
      epsilon: 1e-8,
      weightDecay: 0.1,
      maxGradientNorm: 1,
    });
    for (let step = 0; step < steps; step++) {
      const rows = Array.from({ length: batch }, (_, i) => ids.subarray((step * batch + i) * row, (step * batch + i + 1) * row));
      const inputs = rows.flatMap((one) => [...one.subarray(0, -1)]);
      const targets = rows.flatMap((one) => [...one.subarray(1)]);
      optimiser.clearGradients();
      const { value } = withoutScope(() =>
        valueAndGradients(
          model.parameters.map(({ tensor }) => tensor),
          () => model.loss(idTensor(backend(), inputs, [batch, row - 1]), idTensor(backend(), targets, [batch, row - 1])),
          { into: optimiser.gradientSums },
        ),
      );
      const norm = optimiser.gradientNorm();
      optimiser.update(1e-2, norm);
      expectClose([await value.item()], [golden.floats('loss')[step] ?? NaN], 1e-4, `loss of step ${step}`);
      expectClose([await norm.item()], [golden.floats('grad_norm')[step] ?? NaN], 1e-4, `gradient norm of step ${step}`);
      value.dispose();
      norm.dispose();
    }
    for (const { key, tensor } of model.parameters) {
      expectClose(await tensor.data(), golden.floats(`final.${key}`), 1e-3, `final ${key}`);
    }
    optimiser.dispose();
    model.dispose();
    expect(backend().statistics().liveBuffers).toBe(0);
  });
});
