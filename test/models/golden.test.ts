import { describe, expect, test } from 'vitest';
import { valueAndGradients } from '../../src/autograd/index.js';
import { generateTokens } from '../../src/generate/index.js';
import { loadModel, type LanguageModel } from '../../src/models/index.js';
import { scope, withoutScope, type Backend } from '../../src/tensor/index.js';
import { compiledKernels, gpuIsHere, useBackend } from '../support/backends.js';
import { expectClose } from '../support/compare.js';
import { Goldens, goldenPath } from '../support/goldens.js';
import { idTensor, read } from '../support/models.js';

// Made by transformers in float64 arithmetic from float32 weights.
const golden = new Goldens(goldenPath('hf-mamba/golden.safetensors'));
const ids = golden.integers('input_ids');
const shape = golden.shape('input_ids');

/** Next-token targets of each row; the last position has none. */
function targets(): Int32Array {
  const [rows = 0, length = 0] = shape;
  const result = new Int32Array(rows * length).fill(-1);
  for (let row = 0; row < rows; row++) {
    result.set(ids.subarray(row * length + 1, (row + 1) * length), row * length);
  }
  return result;
}

async function withModel(backend: Backend, path: string, body: (model: LanguageModel) => Promise<void>): Promise<void> {
  const model = await loadModel(goldenPath(path), backend);
  try {
    await body(model);
  } finally {
    model.dispose();
  }
  expect(backend.statistics().liveBuffers, 'live buffers').toBe(0);
}

const runs = [
  { name: 'reference', kind: 'reference' as const, options: {}, limit: 1e-6 },
  ...compiledKernels.map((kernels) => ({ name: kernels, kind: 'cpu' as const, options: { kernels }, limit: 1e-5 })),
  ...(gpuIsHere ? [{ name: 'webgpu', kind: 'webgpu' as const, options: {}, limit: 1e-5 }] : []),
];

describe.each(runs)('transformers’ tiny Mamba on $name', ({ kind, options, limit }) => {
  const backend = useBackend(kind, options);

  test('logits', () =>
    withModel(backend(), 'hf-mamba', async (model) => {
      const logits = await read(() => model.forward(idTensor(backend(), ids, shape)));
      expectClose(logits, golden.floats('logits'), limit, 'logits');
    }));

  test('hidden states', () =>
    withModel(backend(), 'hf-mamba', async (model) => {
      const states = scope(() => model.hiddenStates(idTensor(backend(), ids, shape)));
      expect(states.length).toBe(model.config.layers + 1);
      for (const [i, state] of states.entries()) {
        expectClose(await state.exactData(), golden.floats(`hidden.${i}`), limit, `hidden.${i}`);
        state.dispose();
      }
    }));

  test('loss and every gradient', () =>
    withModel(backend(), 'hf-mamba', async (model) => {
      const { value, gradients } = withoutScope(() =>
        valueAndGradients(
          model.parameters.map(({ tensor }) => tensor),
          () => model.loss(idTensor(backend(), ids, shape), idTensor(backend(), targets(), shape)),
        ),
      );
      expectClose([await value.item()], golden.floats('loss'), limit, 'loss');
      value.dispose();
      for (const [i, { key }] of model.parameters.entries()) {
        const gradient = gradients[i];
        expect(gradient, `gradient of ${key}`).not.toBeNull();
        expectClose((await gradient?.exactData()) ?? [], golden.floats(`grad.${key}`), limit, key);
        gradient?.dispose();
      }
    }));

  test('greedy tokens', () =>
    withModel(backend(), 'hf-mamba', async (model) => {
      const generated: number[] = [];
      for await (const id of generateTokens(model, ids.subarray(0, 8), { temperature: 0, maxTokens: 16 })) generated.push(id);
      expect(generated).toEqual([...golden.integers('greedy')]);
    }));
});

describe('the official dialect', () => {
  const backend = useBackend('cpu', { kernels: 'auto' });

  // Rounding the weights to 11 and 8 bits moves the logits by that much.
  test.each([
    { file: 'pytorch_model.bin', limit: 1e-5 },
    { file: 'pytorch_model.f16.bin', limit: 2e-3 },
    { file: 'pytorch_model.bf16.bin', limit: 2e-2 },
  ])('$file gives the logits of the same weights', ({ file, limit }) =>
    withModel(backend(), `state-spaces-mamba/${file}`, async (model) => {
      const logits = await read(() => model.forward(idTensor(backend(), ids, shape)));
      expectClose(logits, golden.floats('logits'), limit, 'logits');
    }));
});
