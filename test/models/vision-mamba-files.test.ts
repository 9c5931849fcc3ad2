/** Files of Vision Mamba: its own, and such as the official training script writes. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { loadVisionMamba, saveVisionMamba } from '../../src/models/vision-mamba/checkpoint.js';
import { visionMambaConfig, type VisionMambaConfig } from '../../src/models/vision-mamba/config.js';
import { VisionMamba } from '../../src/models/vision-mamba/model.js';
import { resizeGrid } from '../../src/models/vision-mamba/positions.js';
import { scope, tensor } from '../../src/tensor/index.js';
import { concat, pickled, torchArchive } from '../io/build.js';
import { useBackend } from '../support/backends.js';
import { checkpointErrorOf } from '../support/checkpoints.js';
import { expectClose } from '../support/compare.js';
import { useFolder } from '../support/folders.js';

const small = { patch: 32, layers: 2, dModel: 4, dState: 2, classes: 3 } as const;

describe('files of Vision Mamba', () => {
  const backend = useBackend('cpu', { kernels: 'auto', threads: 1 });
  const path = useFolder();

  /** What a model says of an image that depends on its size alone. */
  async function logitsOf(model: VisionMamba): Promise<number[]> {
    const { channels, imageSize } = model.config;
    const logits = scope(() => model.forward(tensor(backend(), Float32Array.from({ length: channels * imageSize ** 2 }, (_, i) => Math.sin(0.37 * i)), [1, channels, imageSize, imageSize])));
    const values = [...(await logits.data())];
    logits.dispose();
    return values;
  }

  /** A model, as torch.save writes it in a training checkpoint with the script's options beside the weights. */
  async function published(model: VisionMamba, name: string): Promise<string> {
    const storages: Record<string, Uint8Array> = {};
    const tensors: [string, Uint8Array][] = [];
    for (const [i, { key, tensor: { shape, size }, tensor: of }] of model.parameters.entries()) {
      storages[String(i)] = new Uint8Array(Float32Array.from(await of.data()).buffer);
      const strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((product, extent) => product * extent, 1));
      tensors.push([key, pickled.tensor(pickled.storage(String(i), size), 0, [...shape], strides)]);
    }
    const args = concat(pickled.global('argparse', 'Namespace'), ')', [0x81], pickled.dict(['lr', pickled.int(1)]), 'b');
    const file = path(`${name}.pth`);
    writeFileSync(file, torchArchive(pickled.file(pickled.dict(['model', pickled.dict(...tensors)], ['args', args])), storages));
    return file;
  }

  test.each<[string, Partial<VisionMambaConfig>]>([
    ['as published', {}],
    ['in pairs, with layer norms', { directions: 'pairs', mean: false, norm: 'layer', classToken: 'first' }],
    ['a shared selection, no class token, overlapping patches', { directions: 'sharedSelection', mean: false, classToken: 'none', stride: 24, layerScale: 0.5 }],
  ])('a saved model is the same: %s', async (name, options) => {
    const model = VisionMamba.initial(visionMambaConfig({ ...small, imageSize: 80, channels: 2, ...options }), backend(), 5);
    await saveVisionMamba(model, path(name));
    const again = await loadVisionMamba(path(name), backend());
    expect(again.config).toEqual(model.config);
    expect(await logitsOf(again)).toEqual(await logitsOf(model));
    for (const one of [model, again]) one.dispose();
  });

  test.each<[string, Partial<VisionMambaConfig>, Parameters<typeof loadVisionMamba>[2]]>([
    ['patches side by side', {}, {}],
    ['a finer stride', { stride: 16 }, {}],
    ['selection shared, token first', { directions: 'sharedSelection', mean: false, classToken: 'first' }, { classToken: 'first' }],
    ['pairs', { directions: 'pairs', mean: false, norm: 'layer' }, {}],
  ])('the config of a published file follows from its shapes: %s', async (name, options, how) => {
    const model = VisionMamba.initial(visionMambaConfig({ ...small, ...options }), backend(), 6);
    const again = await loadVisionMamba(await published(model, name), backend(), how);
    expect(again.config).toEqual(model.config);
    expect(await logitsOf(again)).toEqual(await logitsOf(model));
    for (const one of [model, again]) one.dispose();
  });

  test('positions are stretched to a finer stride; the class token keeps its own', async () => {
    const model = VisionMamba.initial(visionMambaConfig(small), backend(), 7);
    const positions = model.parameters.find(({ key }) => key === 'pos_embed');
    const [grid, finer] = [7, 13];
    const file = await published(model, 'resize');
    const again = await loadVisionMamba(file, backend(), { stride: 16 });
    const [old, now] = [await positions?.tensor.data(), await again.parameters.find(({ key }) => key === 'pos_embed')?.tensor.data()];
    const [before, after] = [Math.floor(grid ** 2 / 2), Math.floor(finer ** 2 / 2)].map((at) => at * 4) as [number, number];
    expect([...(now ?? []).slice(after, after + 4)]).toEqual([...(old ?? []).slice(before, before + 4)]);
    const patches = Float32Array.from([...(old ?? []).slice(0, before), ...(old ?? []).slice(before + 4)]);
    expect([...(now ?? []).slice(0, after), ...(now ?? []).slice(after + 4)]).toEqual([...resizeGrid(patches, grid, finer, 4)]);
    expect(again.config).toEqual({ ...model.config, stride: 16 });
    for (const one of [model, again]) one.dispose();
  });

  test.each([
    ['no Vision Mamba', (keys: Map<string, Float32Array>) => keys.delete('patch_embed.proj.weight'), /patch_embed\.proj\.weight.*is missing; expected the weights of a Vision Mamba/],
    ['a weight too many', (keys: Map<string, Float32Array>) => keys.set('layers.0.mixer.gama', new Float32Array(4)), /gama.*is no parameter/],
    ['positions of no grid', (keys: Map<string, Float32Array>) => keys.set('pos_embed', new Float32Array(44)), /pos_embed.*has 11 positions; expected a number that patches of 32 pixels/],
  ])('%s is refused', async (name, change, message) => {
    const model = VisionMamba.initial(visionMambaConfig(small), backend(), 8);
    const keys = new Map<string, Float32Array>();
    for (const { key, tensor: of } of model.parameters) keys.set(key, Float32Array.from(await of.data()));
    const shapes = new Map(model.parameters.map(({ key, tensor: { shape } }) => [key, shape]));
    change(keys);
    const tensors = [...keys].map(([key, { length }], i): [string, Uint8Array] => {
      const shape = key === 'pos_embed' ? [1, length / 4, 4] : [...(shapes.get(key) ?? [length])];
      return [key, pickled.tensor(pickled.storage(String(i), length), 0, shape, shape.map((_, axis) => shape.slice(axis + 1).reduce((product, extent) => product * extent, 1)))];
    });
    const file = path(`${name}.pth`);
    writeFileSync(file, torchArchive(pickled.file(pickled.dict(...tensors)), Object.fromEntries([...keys.values()].map((values, i) => [String(i), new Uint8Array(values.buffer)]))));
    expect((await checkpointErrorOf(() => loadVisionMamba(file, backend()))).message).toMatch(message);
    model.dispose();
  });

  test('a config that cannot be is refused by its file', async () => {
    const model = VisionMamba.initial(visionMambaConfig(small), backend(), 9);
    await saveVisionMamba(model, path('wrong'));
    mkdirSync(path('wrong'), { recursive: true });
    writeFileSync(path('wrong', 'config.json'), JSON.stringify({ model_type: 'elapid-vision-mamba', ...model.config, patch: 0 }));
    expect((await checkpointErrorOf(() => loadVisionMamba(path('wrong'), backend()))).message).toMatch(/config\.json: patch is 0; expected an integer/);
    model.dispose();
  });
});

describe('a stretched grid', () => {
  test.each([
    [2, 5],
    [7, 13],
    [6, 3],
  ])('from %i to %i: what is constant stays, a slope stays a slope inside', (from, to) => {
    const grid = Float32Array.from({ length: from * from * 2 }, (_, i) => (i % 2 === 0 ? 3 : Math.floor(i / 2) % from));
    const result = resizeGrid(grid, from, to, 2);
    expectClose(result.filter((_, i) => i % 2 === 0), new Array(to * to).fill(3), 1e-6, 'constant');
    for (let c = 0; c < to; c++) {
      const place = ((c + 0.5) * from) / to - 0.5;
      // Cubic weights of four neighbours inside of the grid reproduce a slope.
      if (Math.floor(place) >= 1 && Math.floor(place) + 2 < from) expect(result[2 * c + 1]).toBeCloseTo(place, 5);
    }
  });

  // Keys' cubic with a = −¾ at a distance of ¼: −0.10546875, 0.87890625, 0.26171875, −0.03515625.
  test('values between two are those of the cubic', () => {
    const result = resizeGrid(Float32Array.of(0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0), 4, 8, 1);
    expectClose(result.subarray(0, 8), [0, -0.03515625, -0.10546875, 0.26171875, 0.87890625, 0.87890625, 0.26171875, -0.10546875], 1e-6, 'a row');
  });
});
