import { describe, expect, test } from 'vitest';
import { loadModel } from '../../src/models/index.js';
import { packedDTypes } from '../../src/tensor/index.js';
import { useBackend } from '../support/backends.js';
import { runHere } from '../support/run-here.js';
import { useFolder } from '../support/folders.js';
import { goldenPath } from '../support/goldens.js';

const model = goldenPath('hf-mamba');

describe('elapid quantize', () => {
  const backend = useBackend('cpu', { kernels: 'auto', threads: 1 });
  const path = useFolder();

  test.each(packedDTypes)('%s: writes what packing on load gives, and prints the sizes', async (dtype) => {
    const { code, stdout, stderr } = await runHere('quantize', model, '--dtype', dtype, '--out', path(dtype), '--threads', '1');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/^before +[\d.]+ kB {2}\S+\nafter +[\d.]+ kB {2}\S+ {2}\([\d.]+ %\)\n$/);
    const [written, packed] = [await loadModel(path(dtype), backend()), await loadModel(model, backend(), { dtype })];
    for (const [i, { key, tensor }] of written.parameters.entries()) {
      expect(tensor.dtype, key).toBe(packed.parameters[i]?.tensor.dtype);
      expect([...(await tensor.data())], key).toEqual([...((await packed.parameters[i]?.tensor.data()) ?? [])]);
    }
    for (const loaded of [written, packed]) loaded.dispose();
  });

  test('inspect tells the bytes of a format, asked for or stored', async () => {
    const inspect = async (...args: string[]) => {
      const { code, stdout, stderr } = await runHere('inspect', ...args, '--json');
      expect(code, stderr).toBe(0);
      return JSON.parse(stdout) as { dtype: string; parameters: { bytes: number }; decodeStep: { bytesRead: number } };
    };
    await runHere('quantize', model, '--out', path('q'), '--threads', '1');
    const [f32, stored, asked, int4] = await Promise.all([
      inspect(model),
      inspect(path('q')),
      inspect(model, '--dtype', 'int8'),
      inspect(model, '--dtype', 'int4'),
    ]);
    expect(stored).toEqual(asked);
    expect(stored.dtype).toBe('int8');
    expect(stored.parameters.bytes).toBeLessThan(f32.parameters.bytes);
    expect(stored.decodeStep.bytesRead).toBeLessThan(f32.decodeStep.bytesRead);
    expect(int4.decodeStep.bytesRead).toBeLessThan(stored.decodeStep.bytesRead);
  });

  test('another format than the stored one is refused', async () => {
    await runHere('quantize', model, '--dtype', 'int4', '--out', path('q4'), '--threads', '1');
    const { code, stderr } = await runHere('generate', path('q4'), 'x', '--dtype', 'int8', '--threads', '1');
    expect(code).toBe(1);
    expect(stderr).toMatch(/is packed as int4; it cannot be loaded as int8\. Hint/);
  });

  test('an unknown format and no folder are wrong usage', async () => {
    expect((await runHere('quantize', model, '--dtype', 'int3', '--out', path('x'))).code).toBe(2);
    expect((await runHere('quantize', model)).code).toBe(2);
  });
});
