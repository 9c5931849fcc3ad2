import { describe, expect, test } from 'vitest';
import { Random, tensor } from '../../src/index.js';
import { toFloat32 } from '../../src/io/index.js';
import { defineKernel, empty, input, launch, output } from '../../src/tensor/index.js';
import { matrixFactor } from '../../src/wgsl/product/factor.js';
import { afterHalving } from '../../src/wgsl/product/halved.js';
import { gpuIsHere, useBackend } from '../support/backends.js';

const [n, k, groups] = [72, 128, 3];

/** Writes the halves of a product's right factor [groups, n·k], rows along the depth or across it, where the product would read them. */
const halvesOf = (along: 'depth' | 'outer', read: string[]) =>
  defineKernel('halves', {
    buffers: { b: input.f32, halves_b: output.i32 },
    parameters: { n: 'int', k: 'int' },
    operations: (p) => p.n * p.k,
    optional: true,
    webgpu() {
      const names = { outer: 'p.n', depth: 'p.k', stride: '(p.n * p.k)', halves: false } as const;
      const a = matrixFactor({ ...names, name: 'a', dtype: 'f16', along: 'depth', pitch: 'p.k', lanes: 8 });
      const b = matrixFactor({ ...names, name: 'b', dtype: 'f32', along, pitch: along === 'depth' ? 'p.k' : 'p.n', lanes: 4 });
      const result = { name: 'c', dtype: 'f32', pitch: 'p.n', stride: '0u', lanes: 4, bias: false, accumulate: false, saturate: false } as const;
      const { dispatches, scratch } = afterHalving({ m: 256, n, k, batch: 1, a, b, result, groups: { of: 'rows', count: groups } }, () => true, (product) => {
        read.push(product.b.whole?.at('group', 'outer', 'depth') ?? '');
        return { dispatches: [] };
      });
      // Activations stay as they are.
      expect(scratch).toEqual({ halves_b: { dtype: 'f16', size: groups * n * k } });
      return { dispatches };
    },
    reference: () => expect.fail(),
  });

describe.runIf(gpuIsHere)('weights of groups are made halves', () => {
  const gpu = useBackend('webgpu');

  test.each([
    ['depth', 'p.halves_b_at * 8u + (group) * (p.n * p.k) + (outer) * p.k + depth'],
    ['outer', 'p.halves_b_at * 8u + (group) * (p.n * p.k) + (depth) * p.n + outer'],
  ] as const)('as they lie, along the %s', async (along, place) => {
    const random = new Random(1);
    const weights = Float32Array.from({ length: groups * n * k }, () => Math.round(64 * (2 * random.uniform() - 1)) / 64);
    const [b, halves] = [tensor(gpu(), weights, [groups, n * k]), empty(gpu(), [weights.length / 2], 'i32')];
    const read: string[] = [];
    launch(halvesOf(along, read), { b, halves_b: halves }, { n, k });
    const { buffer } = Int32Array.from(await halves.data());
    expect(toFloat32(new Uint8Array(buffer), 'F16')).toEqual(weights);
    expect(read).toEqual([place]);
    for (const one of [b, halves]) one.dispose();
  });
});
