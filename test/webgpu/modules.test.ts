/** What products and the decoding step give GPUs that machines of tests rarely have: their code is checked by Dawn, without a GPU to run it. */
import { create, globals } from 'webgpu';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { LaunchPlans, type LaunchPlan } from '../../src/backend/webgpu/plan.js';
import type { Pipelines } from '../../src/backend/webgpu/pipelines.js';
import { kernels } from '../../src/ops/kernels.js';
import type { DType, GpuFeatures } from '../../src/tensor/index.js';

const features: GpuFeatures = {
  f16: true,
  subgroups: { smallest: 32, largest: 32 },
  matrices: true,
  workgroupBytes: 49152,
  workgroupSize: 1024,
  storageBuffers: 16,
  bindingBytes: 2 ** 32,
};

/** Code by its pipeline's key. */
const modules = new Map<string, string>();
const collected = {
  get(key: string, _label: string, _access: unknown, source: () => string) {
    const code = source();
    // Launches with one key share the code of the first.
    expect(modules.get(key) ?? code, key).toBe(code);
    modules.set(key, code);
    return { key };
  },
};
const plans = new LaunchPlans(features, collected as unknown as Pipelines);

function planned(name: string, buffers: Readonly<Record<string, DType | undefined>>, parameters: Readonly<Record<string, number>>) {
  const kernel = kernels.find((one) => one.name === name);
  if (kernel === undefined) throw new Error(`there is no kernel ${name}`);
  const size = 2 ** 26;
  const views = Object.keys(kernel.buffers).map((buffer) => {
    const dtype = buffers[buffer];
    return dtype === undefined ? null : { buffer: { dtype, size }, offset: 0, size };
  });
  const plan: LaunchPlan = plans.get(kernel, views, Object.keys(kernel.parameters).map((parameter) => parameters[parameter] ?? 0));
  const keys = plan.dispatches.map(({ pipeline }) => (pipeline as unknown as { key: string }).key);
  return { scratch: plan.scratch, codes: keys.map((key) => modules.get(key) ?? '') };
}

interface Form {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly transposeA?: boolean;
  readonly transposeB?: boolean;
  /** Elements between rows. */
  readonly gap?: number;
  readonly batch?: number;
  readonly half?: boolean;
  readonly accumulate?: boolean;
}

/** A product of such dtypes of a, b and c. */
function product(form: Form, [a, b, c]: readonly [DType, DType, DType], bias = false) {
  const { m, n, k, transposeA = false, transposeB = false, gap = 0, batch = 1, half = false, accumulate = false } = form;
  const [lda, ldb, ldc] = [(transposeA ? m : k) + gap, (transposeB ? k : n) + gap, n + gap];
  const strides = { strideA: (transposeA ? k : m) * lda, strideB: (transposeB ? n : k) * ldb, strideC: m * ldc };
  const flags = { transposeA, transposeB, half, accumulate, saturate: c === 'f16' };
  const numbers = Object.fromEntries(Object.entries(flags).map(([name, flag]) => [name, Number(flag)]));
  const parameters = { m, n, k, lda, ldb, ldc, batch, ...strides, ...numbers };
  return planned('gemm', { a, b, c, bias: bias ? 'f32' : undefined }, parameters);
}

const halves = ['f16', 'f16', 'f32'] as const;

const cube = { m: 4096, n: 4096, k: 4096 };

test('factors in f32 of a large product are converted first, where they are read often', () => {
  for (const [transposeA, transposeB] of [[false, true], [false, false], [true, false]] as const) {
    const form = { ...cube, transposeA, transposeB, half: true };
    const halvedOf = (changes: Partial<Form>, dtypes: Parameters<typeof product>[1]) =>
      product({ ...form, ...changes }, dtypes).scratch.flatMap(({ dtype, size }) => (dtype === 'f16' ? [size] : []));
    const [left, right] = [['f32', 'f16', 'f32'], ['f16', 'f32', 'f16']] as const;
    expect(halvedOf({ n: 2048 }, left)).toEqual([4096 ** 2]);
    expect(halvedOf({ n: 2048 }, right)).toEqual([2048 * 4096]);
    expect(halvedOf({ n: 2048 }, ['f32', 'f32', 'f32'])).toHaveLength(2);
    expect(halvedOf({}, halves)).toEqual([]);
    expect(halvedOf({ n: 512 }, left)).toEqual([]);
    expect(halvedOf({ m: 512, k: 16384 }, right)).toEqual([]);
    expect(halvedOf({ batch: 2 }, right)).toEqual([]);
    // Rows of halves would not begin with whole vectors.
    const odd = transposeB ? { k: 4100 } : { n: 4100 };
    expect(halvedOf(odd, right)).toEqual([]);
  }
});

test('extents and pitches are compiled into large products, and such pipelines are told apart', () => {
  for (const transposeA of [false, true]) {
    const codesOf = (changes: Partial<Form>) => product({ ...cube, transposeA, ...changes }, halves).codes;
    const [constant, other] = [codesOf({}), codesOf({ gap: 64 })];
    for (const code of [...constant, ...other]) expect(code).not.toMatch(/\bp\.(?!\w+_at\b)/);
    expect(constant.at(-1)).toContain('4096u');
    expect(other.at(-1)).toContain('4160u');
    expect(codesOf({ m: 4096 + 8 }).at(-1)).toContain('p.m');
  }
});

test('sums that are converted or added on their way to the result are in sight of a store of whole matrices', () => {
  const codes = [product(cube, ['f16', 'f16', 'f16']), product({ ...cube, accumulate: true }, halves), product(cube, halves, true)];
  for (const made of codes) expect(made.codes.at(-1)).toContain('if (arrayLength(&c) == 0u)');
  expect(product(cube, halves).codes.at(-1)).not.toContain('arrayLength');
});

describe('every form of a product and of a block’s step', () => {
  let device: GPUDevice;
  // Dawn corrupts its heap when these are collected.
  const kept: unknown[] = [];
  beforeAll(async () => {
    Object.assign(globalThis, globals);
    const gpu = create(['backend=null', 'enable-dawn-features=allow_unsafe_apis']);
    const adapter = await gpu.requestAdapter();
    if (adapter === null) throw new Error('Dawn has no null adapter');
    const requiredFeatures = ['shader-f16', 'subgroups', 'chromium-experimental-subgroup-matrix'] as GPUFeatureName[];
    device = await adapter.requestDevice({ requiredFeatures });
    kept.push(gpu, adapter);
  });
  afterAll(() => {
    device.destroy();
  });

  test('is valid WGSL', async () => {
    const extents = [
      ...([[4096, 4096, 4096], [2048, 8192, 1024], [256, 512, 8192], [64, 2048, 65536], [2048, 50280, 768]] as const),
      ...([[16, 768, 1536], [96, 80, 1536], [7, 60, 512]] as const),
      ...([[100, 200, 264], [33, 65, 130], [16, 64, 64], [3, 21, 530], [1, 768, 1536]] as const),
    ];
    const dtypes = [halves, ['f16', 'f16', 'f16'], ['f16', 'f32', 'f16'], ['f32', 'f16', 'f32'], ['f32', 'f32', 'f32']] as const;
    for (const [m, n, k] of extents) {
      for (const all of dtypes) {
        for (const form of [0, 1, 2, 3].map((i) => ({ m, n, k, transposeA: i % 2 === 1, transposeB: i >= 2 }))) {
          for (const half of [false, true]) product({ ...form, half }, all);
          product({ ...form, half: true, gap: 8, accumulate: true }, all, true);
          product({ ...form, batch: 3 }, all);
        }
      }
      for (const format of ['bf16', 'int8', 'int4'] as const) {
        for (const half of [0, 1]) planned(`linear_${format}`, { a: 'f16', weight: format, c: 'f16' }, { m, n, k, lda: k, ldc: n, half });
      }
    }
    for (const [width, rank] of [[768, 48], [1024, 64], [2048, 128], [40, 3]] as const) {
      for (const batch of [1, 2, 4, 7, 16]) {
        for (const [x, weights, outProj] of [['f16', 'f16', undefined], ['f32', 'f16', 'f16'], ['f16', 'f32', 'f32']] as const) {
          const given = { x, residual: x, normWeight: 'f32', inProj: weights, convState: 'f32', convWeight: 'f32', convBias: 'f32', xProj: weights } as const;
          const others = { dtProj: weights, dtBias: 'f32', A: 'f32', D: 'f32', ssmState: 'f32', outProj, y: outProj === undefined ? 'f16' : 'f32', sum: 'f32' } as const;
          const xParts = x === 'f32' && batch <= 4 ? 24 : 1;
          planned('block_step', { ...given, ...others }, { batch, width, xParts, channels: width === 40 ? 64 : 2 * width, taps: 4, rank, stateSize: 16 });
        }
      }
    }
    for (const [width, inner] of [[768, 1536], [2560, 5120], [40, 64]] as const) {
      for (const batch of [1, 3, 16]) {
        const [stateSize, heads] = [128, inner / 64];
        const channels = inner + 2 * stateSize;
        for (const [x, weights, scaled] of [['f16', 'f16', 0], ['f32', 'f16', 1], ['f32', 'f32', 1]] as const) {
          const given = { x, residual: x, normWeight: 'f32', inProj: weights, convState: 'f32', convWeight: 'f32', convBias: 'f32', projected: 'f32', sum: 'f32' } as const;
          planned('ssd_block_enter', given, { batch, width, xParts: scaled === 1 ? heads : 1, scaled, gates: inner, channels, outputs: inner + channels + heads, taps: 4 });
          const others = { projected: 'f32', dtBias: 'f32', A: 'f32', D: 'f32', ssmState: 'f32', normWeight: 'f32', outProj: weights, y: 'f32' } as const;
          planned('ssd_block_leave', others, { batch, width, heads, headSize: 64, groups: 1, stateSize });
          if (weights === 'f16' && width % 128 === 0) {
            const product = { x, normWeight: 'f32', weight: 'f16', y: x } as const;
            planned('rms_norm_linear_matrices', product, { rows: batch, columns: inner, outputs: width, xPitch: inner, residualPitch: 0 });
          }
        }
        const step = { state: 'f32', x: 'f16', delta: 'f16', A: 'f32', B: 'f16', C: 'f16', D: 'f32', z: 'f16', deltaBias: 'f32', y: 'f16' } as const;
        planned('ssd_step', step, { batch: 8 * batch, heads, headSize: 64, groups: 1, stateSize, xPitch: channels, deltaPitch: heads, zPitch: inner, bPitch: channels, cPitch: channels });
      }
    }
    expect([...modules.keys()].filter((key) => key.includes('enter matrices'))).toHaveLength(4);
    expect([...modules.keys()].filter((key) => /ssd_block_enter.*matrices/.test(key)).length).toBeGreaterThan(2);
    expect([...modules.keys()].filter((key) => key.includes('|deep')).length).toBeGreaterThan(4);
    expect([...modules.keys()].filter((key) => key.includes('matrix')).length).toBeGreaterThan(100);
    const wrong: string[] = [];
    for (const [key, code] of modules) {
      device.pushErrorScope('validation');
      const { messages } = await device.createShaderModule({ code }).getCompilationInfo();
      const error = await device.popErrorScope();
      wrong.push(...messages.filter(({ type }) => type === 'error').map(({ message, lineNum }) => `${key}: line ${lineNum}: ${message}`));
      if (error !== null && messages.length === 0) wrong.push(`${key}: ${error.message}`);
    }
    expect(wrong).toEqual([]);
  });
});
