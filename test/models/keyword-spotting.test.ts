import { describe, expect, test } from 'vitest';
import { MambaMixer, mambaMixerConfig } from '../../src/mixers/index.js';
import { Linear, ParameterStore } from '../../src/nn/index.js';
import { mean } from '../../src/ops/index.js';
import { scope, tensor, type Tensor } from '../../src/tensor/index.js';
import { absenceNote, sharedFixture } from '../fixtures.js';
import { compiledKernels, useBackend } from '../support/backends.js';
import { expectClose } from '../support/compare.js';
import { Goldens } from '../support/goldens.js';

const fixture = 'real/keyword-spotting-10.safetensors';
const path = sharedFixture(fixture);

describe.skipIf(path === undefined).each(compiledKernels)(`keyword spotting, weights people trained, on %s${absenceNote(fixture)}`, (kernels) => {
  const backend = useBackend('cpu', { kernels });

  test('mixer output and logits', async () => {
    const golden = new Goldens(path ?? '');
    const made: Tensor[] = [];
    const parameters = new ParameterStore((key, { shape }) => {
      const value = tensor(backend(), golden.floats(key), shape);
      made.push(value);
      return value;
    });
    const input = new Linear(parameters.at('linear_in'), { inputs: 40, outputs: 64, bias: true });
    const mixer = new MambaMixer(parameters.at('mamba'), mambaMixerConfig({ dModel: 64, layers: 1 }));
    const classifier = new Linear(parameters.at('classifier'), { inputs: 64, outputs: 10, bias: true });
    const results = scope(() => {
      const projected = input.forward(tensor(backend(), golden.floats('sample.input'), [1, 100, 40]));
      const y = mixer.forward(projected);
      return { projected, y, logits: classifier.forward(mean(y, 1)) };
    });
    expectClose(await results.projected.data(), golden.floats('sample.mixer_input'), 1e-5, 'mixer input');
    expectClose(await results.y.data(), golden.floats('sample.mixer_output'), 1e-4, 'mixer output');
    const logits = await results.logits.data();
    golden.floats('sample.logits').forEach((logit, i) => {
      expect(Math.abs((logits[i] ?? NaN) - logit), `logit ${i}`).toBeLessThan(1e-3);
    });
    for (const value of [...Object.values(results), ...made]) value.dispose();
    expect(backend().statistics().liveBuffers).toBe(0);
  });
});
