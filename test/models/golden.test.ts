/** Models that transformers saved, and what it computes with them in float64 arithmetic. */
import { describe, expect, test } from 'vitest';
import { generateTokens } from '../../src/generate/index.js';
import { loadModel, saveModel, type LanguageModel } from '../../src/models/index.js';
import { scope } from '../../src/tensor/index.js';
import { compiledKernels, gpuIsHere, useBackend } from '../support/backends.js';
import { expectClose } from '../support/compare.js';
import { families } from '../support/families.js';
import { useFolder } from '../support/folders.js';
import { Goldens, goldenPath } from '../support/goldens.js';
import { lossAndGradients } from '../support/gradients.js';
import { idTensor, read } from '../support/models.js';
import { isNight } from '../support/rare-cases.js';

const goldens = families.flatMap(({ name: family, goldens: models }) =>
  models.map(({ folder, padded = false, dialects = [], hidden }) => ({
    ...{ name: `${family}, ${folder}`, padded, dialects, hidden },
    golden: new Goldens(goldenPath(`${folder}/golden.safetensors`)),
    folder: goldenPath(folder),
  })),
);

/** Next-token targets of each row; the last position has none. */
function targetsOf(ids: Int32Array, [rows = 0, length = 0]: readonly number[]): Int32Array {
  const result = new Int32Array(rows * length).fill(-1);
  for (let row = 0; row < rows; row++) {
    result.set(ids.subarray(row * length + 1, (row + 1) * length), row * length);
  }
  return result;
}

const runs = [
  { on: 'reference', kind: 'reference' as const, options: {}, limit: 1e-6 },
  ...compiledKernels.map((kernels) => ({ on: kernels, kind: 'cpu' as const, options: { kernels }, limit: 1e-5 })),
  ...(gpuIsHere ? [{ on: 'webgpu', kind: 'webgpu' as const, options: {}, limit: 1e-5 }] : []),
];

describe.each(runs)('on $on', ({ kind, options, limit }) => {
  // One for all families: on a GPU they share what was compiled.
  const backend = useBackend(kind, options);

  async function withModel(folder: string, body: (model: LanguageModel) => Promise<void>): Promise<void> {
    const model = await loadModel(folder, backend());
    try {
      await body(model);
    } finally {
      model.dispose();
    }
  }

  // A software GPU compiles products of many rows, and gradients, for half a minute: by day a page in Chromium has them (`test/browser`).
  const compilesFast = kind !== 'webgpu' || isNight;

  describe.each(goldens)('$name', ({ folder, golden, padded, hidden }) => {
    const ids = golden.integers('input_ids');
    const shape = golden.shape('input_ids');
    const input = (values: ArrayLike<number> = ids, of = shape) => idTensor(backend(), values, of);

    test('logits, a few positions at a time', () =>
      withModel(folder, async (model) => {
        const [rows = 0, length = 0] = shape;
        const expected = golden.floats('logits');
        const width = expected.length / rows;
        const state = model.newState(rows);
        for (let start = 0; start < length; start += 4) {
          const end = Math.min(start + 4, length);
          const piece = Array.from({ length: rows }, (_, row) => [...ids.subarray(row * length + start, row * length + end)]);
          const logits = await read(() => model.forward(input(piece.flat(), [rows, end - start]), { state }));
          const wanted = piece.flatMap((_, row) => [...expected.subarray(row * width + (start * width) / length, row * width + (end * width) / length)]);
          expectClose(logits, wanted, limit, `logits of positions ${start} to ${end}`);
        }
        state.dispose();
      }));

    test.runIf(compilesFast)('logits and hidden states', () =>
      withModel(folder, async (model) => {
        expectClose(await read(() => model.forward(input())), golden.floats('logits'), limit, 'logits');
        const states = scope(() => model.hiddenStates(input()));
        expect(states.length).toBe(model.config.layers + 1);
        for (const [i, state] of states.entries()) {
          // Of the last two, what goes into the final norm and what comes out of it, most goldens have the latter.
          const last = hidden === 'stream' ? undefined : states.length - 1;
          const place = i === states.length - 1 ? last : hidden === 'output' ? i : i + 1 === last ? undefined : i + 1;
          if (place !== undefined) expectClose(await state.exactData(), golden.floats(`hidden.${place}`), limit, `hidden.${place}`);
          state.dispose();
        }
      }));

    test.runIf(compilesFast)('loss and every gradient', () =>
      withModel(folder, async (model) => {
        const { loss, gradients } = await lossAndGradients(model, () => model.loss(input(), input(targetsOf(ids, shape))));
        expectClose([loss], golden.floats('loss'), limit, 'loss');
        const { renamed = [] } = model.family.keys ?? {};
        const ours = (key: string) => renamed.reduce((name, [pattern, replacement]) => name.replace(pattern, replacement), key);
        const keys = new Map(golden.keys.filter((key) => key.startsWith('grad.')).map((key) => [ours(key.slice('grad.'.length)), key]));
        expect([...gradients.keys()].sort()).toEqual([...keys.keys()].sort());
        for (const [key, gradient] of gradients) expectClose(gradient, golden.floats(keys.get(key) as string), limit, key);
      }));

    test('greedy tokens', () =>
      withModel(folder, async (model) => {
        const generated: number[] = [];
        for await (const id of generateTokens(model, ids.subarray(0, 8), { temperature: 0, maxTokens: 16 })) generated.push(id);
        expect(generated).toEqual([...golden.integers('greedy')]);
      }));

    if (!padded) return;
    test.runIf(compilesFast)('a left-padded batch', () =>
      withModel(folder, async (model) => {
        const file = new Goldens(`${folder}/padded.safetensors`);
        const [all, mask, of] = [file.integers('input_ids'), file.integers('attention_mask'), file.shape('input_ids')];
        const [, length = 0, vocabulary = 0] = file.shape('logits');
        const starts = mask.map((real, i) => (real === 1 && (i % length === 0 || mask[i - 1] === 0) ? 1 : 0));
        const logits = await read(() => model.forward(input(all, of), { sequenceStarts: input(starts, of) }));
        // Where padded, the golden logits are 0.
        const real = logits.map((value, i) => value * (mask[Math.floor(i / vocabulary)] ?? NaN));
        expectClose(real, file.floats('logits'), limit, 'logits');
      }));
  });
});

describe('dialects', () => {
  const backend = useBackend('cpu', { kernels: 'auto' });
  const path = useFolder();

  test.each(goldens.flatMap(({ golden, folder, dialects }) => [folder, ...dialects.map(goldenPath)].map((dialect) => ({ dialect, folder, golden }))))(
    '$dialect: the logits, and saved and loaded again the same model',
    async ({ dialect, folder, golden }) => {
      const [model, transformers] = [await loadModel(dialect, backend()), await loadModel(folder, backend())];
      const shape = golden.shape('input_ids');
      const logits = await read(() => model.forward(idTensor(backend(), golden.integers('input_ids'), shape)));
      expectClose(logits, golden.floats('logits'), 1e-5, 'logits');
      await saveModel(model, path('saved'));
      const saved = await loadModel(path('saved'), backend());
      expect(saved.config).toEqual(model.config);
      const fingerprint = await transformers.fingerprint();
      expect([await model.fingerprint(), await saved.fingerprint()]).toEqual([fingerprint, fingerprint]);
      for (const one of [model, transformers, saved]) one.dispose();
    },
  );

  // Rounding the weights to 11 and 8 bits moves the logits by that much.
  test.each([
    { file: 'pytorch_model.bin', limit: 1e-5 },
    { file: 'pytorch_model.f16.bin', limit: 2e-3 },
    { file: 'pytorch_model.bf16.bin', limit: 2e-2 },
  ])('Mamba’s official one, $file: the logits of the same weights', async ({ file, limit }) => {
    const golden = new Goldens(goldenPath('hf-mamba/golden.safetensors'));
    const model = await loadModel(goldenPath(`state-spaces-mamba/${file}`), backend());
    const logits = await read(() => model.forward(idTensor(backend(), golden.integers('input_ids'), golden.shape('input_ids'))));
    expectClose(logits, golden.floats('logits'), limit, 'logits');
    model.dispose();
  });
});
