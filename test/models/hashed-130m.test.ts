import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { argmax } from '../../src/generate/index.js';
import { countParameters } from '../../src/nn/index.js';
import { linearCrossEntropy } from '../../src/ops/index.js';
import { scope } from '../../src/tensor/index.js';
import { useBackend } from '../support/backends.js';
import { goldenPath } from '../support/goldens.js';
import { hashedMamba130m } from '../support/hashed-weights.js';
import { idTensor } from '../support/models.js';

interface Golden {
  params: number;
  L: number;
  top_ids: number[];
  top_logits: number[];
  last_logits_first32: number[];
  loss: number;
  argmax_each: number[];
}

const golden = (JSON.parse(readFileSync(goldenPath('hashed-mamba-130m.json'), 'utf8')) as { '130m': Golden })['130m'];

describe.each(['auto', 'wasm'] as const)('the 130m shape on %s kernels', (kernels) => {
  const backend = useBackend('cpu', { kernels, poison: false });

  test('argmaxes, top logits and loss', async () => {
    const model = hashedMamba130m(backend());
    expect(countParameters(model.parameters)).toBe(golden.params);
    const ids = Int32Array.from({ length: golden.L }, (_, i) => ((i * 7919) % 50000) + 10);
    const [logitsTensor, lossTensor] = scope(() => {
      const input = idTensor(backend(), ids, [1, golden.L]);
      const targets = idTensor(backend(), Int32Array.of(...ids.subarray(1), -1), [1, golden.L]);
      const loss = linearCrossEntropy(model.hidden(input), model.embeddings.weight.tensor, targets);
      return [model.forward(input), loss] as const;
    });
    const logits = await logitsTensor.data();
    const rows = Array.from({ length: golden.L }, (_, i) => logits.subarray(i * 50280, (i + 1) * 50280));
    expect(rows.map((row) => argmax(Float32Array.from(row)))).toEqual(golden.argmax_each);
    const last = rows.at(-1) ?? [];
    golden.top_ids.forEach((id, i) => {
      expect(Math.abs((last[id] ?? NaN) - (golden.top_logits[i] ?? NaN)), `logit of ${id}`).toBeLessThan(1e-3);
    });
    golden.last_logits_first32.forEach((logit, i) => {
      expect(Math.abs((last[i] ?? NaN) - logit), `last logit ${i}`).toBeLessThan(1e-3);
    });
    expect(Math.abs((await lossTensor.item()) - golden.loss)).toBeLessThan(1e-4);
    logitsTensor.dispose();
    lossTensor.dispose();
    model.dispose();
  });
});
