import { mkdirSync, writeFileSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { splitText } from '../../src/data/index.js';
import { loadModel, type LanguageModel, saveModel } from '../../src/models/index.js';
import { portableWeightDTypes } from '../../src/models/packing.js';
import { packedDTypes, type Backend, type Tensor } from '../../src/tensor/index.js';
import { defaultTrainingOptions, Trainer } from '../../src/train/index.js';
import { ArgumentError } from '../../src/util/errors.js';
import { useBackend, compiledKernels } from '../support/backends.js';
import { checkpointErrorOf, rewriteSafetensors, type EditableContent } from '../support/checkpoints.js';
import { expectClose, relativeError } from '../support/compare.js';
import { useFolder } from '../support/folders.js';
import { Goldens, goldenPath } from '../support/goldens.js';
import { idTensor, read } from '../support/models.js';

const golden = new Goldens(goldenPath('hf-mamba/golden.safetensors'));
const ids = golden.integers('input_ids');
const shape = golden.shape('input_ids');
const folder = goldenPath('hf-mamba');

const logitsOf = (backend: Backend, model: LanguageModel) => read(() => model.forward(idTensor(backend, ids, shape)));

async function bytesOf(model: LanguageModel): Promise<Map<string, Buffer>> {
  const bytes = new Map<string, Buffer>();
  for (const { key, tensor } of model.parameters) {
    const data = await tensor.data();
    bytes.set(key, Buffer.from(data.buffer, data.byteOffset, data.byteLength));
  }
  return bytes;
}

/** How far a format moves the golden's logits, relative to the largest: stated limits, about twice what is measured. */
const limits = { f32: 1e-5, bf16: 1e-2, int8: 1e-2, int4: 0.15 };

describe.each(compiledKernels)('goldens in every format, %s kernels', (kernels) => {
  const backend = useBackend('cpu', { kernels });

  test.each(portableWeightDTypes)('%s: the logits', async (dtype) => {
    const model = await loadModel(folder, backend(), { dtype });
    expectClose(await logitsOf(backend(), model), golden.floats('logits'), limits[dtype], 'logits');
    model.dispose();
    expect(backend().statistics().liveBuffers).toBe(0);
  });
});

describe('formats on the reference', () => {
  const backend = useBackend('reference');

  test('fewer bits move the logits further', async () => {
    const errors: number[] = [];
    for (const dtype of portableWeightDTypes) {
      const model = await loadModel(folder, backend(), { dtype });
      errors.push(relativeError(await logitsOf(backend(), model), golden.floats('logits')));
      model.dispose();
    }
    const [f32 = 1, , int8 = 1, int4 = 1] = errors;
    expect(f32).toBeLessThan(int8);
    expect(int8).toBeLessThan(int4);
  });
});

describe('checkpoints with packed weights', () => {
  const backend = useBackend('cpu');
  const path = useFolder();

  /** Saves the golden model in a format and gives its folder. */
  async function saved(dtype: (typeof packedDTypes)[number], name: string): Promise<string> {
    const model = await loadModel(folder, backend(), { dtype });
    await saveModel(model, path(name));
    model.dispose();
    return path(name);
  }

  test.each(packedDTypes)('%s: reads back equal to the bit to packing on load', async (dtype) => {
    const at = await saved(dtype, dtype);
    const [packed, read] = [await loadModel(folder, backend(), { dtype }), await loadModel(at, backend())];
    expect(await bytesOf(read)).toEqual(await bytesOf(packed));
    expect(read.parameters.map(({ tensor }) => tensor.dtype)).toEqual(packed.parameters.map(({ tensor }) => tensor.dtype));
    for (const model of [packed, read, await loadModel(at, backend(), { dtype })]) model.dispose();
    expect(backend().statistics().liveBuffers).toBe(0);
  });

  test('another format than it is packed in is refused', async () => {
    const at = await saved('int8', 'int8');
    const error = await checkpointErrorOf(() => loadModel(at, backend(), { dtype: 'int4' }));
    expect(error.message).toContain('is packed as int8; it cannot be loaded as int4. Hint: load the checkpoint it was made of');
    await expect(loadModel(at, backend(), { dtype: 'f64' as 'f32' })).rejects.toThrow(ArgumentError);
    expect(backend().statistics().liveBuffers).toBe(0);
  });

  test('f16 is for GPUs, and the CPU says so', async () => {
    const loading = loadModel(goldenPath('hf-mamba'), backend(), { dtype: 'f16' });
    await expect(loading).rejects.toThrow('the CPU multiplies by no f16 weights. Hint: bf16, or the webgpu backend');
    expect(backend().statistics().liveBuffers).toBe(0);
  });

  const key = 'backbone.layers.0.mixer.in_proj.weight';
  const metadata = ({ metadata: fields }: EditableContent, change: (value: Description) => unknown) => {
    const value = JSON.parse(fields['elapid.packed'] ?? '') as Description;
    change(value);
    fields['elapid.packed'] = JSON.stringify(value);
  };
  interface Description {
    version: unknown;
    tensors: Record<string, unknown>;
    more?: unknown;
  }

  test.each([
    ['metadata that is not JSON', ({ metadata: fields }: EditableContent) => (fields['elapid.packed'] = '{"version"'), /elapid\.packed': is not JSON/],
    ['no metadata', ({ metadata: fields }: EditableContent) => delete fields['elapid.packed'], /has shape \[\d+\]; expected \[\d+,\d+\] from config\.json/],
    ['a version to come', (c: EditableContent) => { metadata(c, (d) => (d.version = 2)); }, /elapid\.packed\.version': is 2; expected 1/],
    ['another field', (c: EditableContent) => { metadata(c, (d) => (d.more = 1)); }, /elapid\.packed\.more': is not a key that is known here/],
    ['an unknown format', (c: EditableContent) => { metadata(c, (d) => (d.tensors[key] = { dtype: 'int3', shape: [2, 2] })); }, /dtype': is "int3"; expected "bf16", "int8" or "int4"/],
    ['a shape that is none', (c: EditableContent) => { metadata(c, (d) => (d.tensors[key] = { dtype: 'int8', shape: [-16, 32] })); }, /shape\.0': is -16; expected an integer of at least 1/],
    ['another shape', (c: EditableContent) => { metadata(c, (d) => (d.tensors[key] = { dtype: 'int8', shape: [32, 32] })); }, /in_proj\.weight', byte \d+: has shape \[32,32\]; expected/],
    ['another format', (c: EditableContent) => { metadata(c, (d) => (d.tensors[key] = { ...(d.tensors[key] as object), dtype: 'int4' })); }, /is U8 \[\d+\]; expected U8 \[\d+\], the bytes of int4/],
    ['a tensor that is not there', (c: EditableContent) => { metadata(c, (d) => (d.tensors['nothing'] = { dtype: 'int8', shape: [1, 1] })); }, /names 'nothing', which the checkpoint does not hold/],
    ['bytes cut short', ({ tensors }: EditableContent) => tensors.set(key, { dtype: 'U8', shape: [100], bytes: new Uint8Array(100) }), /is U8 \[100\]; expected U8 \[\d+\], the bytes of int8/],
    ['numbers in place of bytes', ({ tensors }: EditableContent) => tensors.set(key, { dtype: 'F32', shape: [4, 4], bytes: new Uint8Array(64) }), /is F32 \[4,4\]; expected U8/],
    ['a small parameter packed', (c: EditableContent) => {
      const norm = 'backbone.norm_f.weight';
      c.tensors.set(norm, { dtype: 'U8', shape: [1088], bytes: new Uint8Array(1088) });
      metadata(c, (d) => (d.tensors[norm] = { dtype: 'int8', shape: [1, 16] }));
    }, /norm_f\.weight', byte \d+: has shape \[1088\]; expected/],
  ] satisfies [string, (content: EditableContent) => unknown, RegExp][])('%s', async (_, change, message) => {
    const at = await saved('int8', 'int8');
    mkdirSync(path('broken'), { recursive: true });
    writeFileSync(path('broken', 'config.json'), readFileSync(`${at}/config.json`));
    writeFileSync(path('broken', 'model.safetensors'), rewriteSafetensors(readFileSync(`${at}/model.safetensors`), change));
    const error = await checkpointErrorOf(async () => {
      const model: LanguageModel = await loadModel(path('broken'), backend());
      model.dispose();
    });
    expect(error.message).toMatch(message);
    expect(backend().statistics().liveBuffers).toBe(0);
  });
});

describe('training', () => {
  const backend = useBackend('cpu');

  test('a packed model is refused, and nothing is left behind', async () => {
    const model = await loadModel(folder, backend(), { dtype: 'int8' });
    expect(() => new Trainer(model, splitText(new Uint8Array(8000), 0.5), defaultTrainingOptions(10))).toThrow(
      /AdamW: weight is int8; expected f32 where gradients are wanted\. Hint: packed weights are for inference/,
    );
    model.dispose();
    expect(backend().statistics().liveBuffers).toBe(0);
  });
});

describe('memory while loading', () => {
  const backend = useBackend('cpu', { poison: false });

  test('one f32 matrix at a time beyond the packed ones', async () => {
    const model = await loadModel(folder, backend(), { dtype: 'int4' });
    const { liveBytes, peakBytes } = backend().statistics();
    const largest = Math.max(...model.parameters.map(({ tensor }: { tensor: Tensor }) => 4 * tensor.size));
    expect(peakBytes).toBeLessThanOrEqual(liveBytes + largest);
    model.dispose();
  });
});
