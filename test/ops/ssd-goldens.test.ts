import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { parseSafetensors } from '../../src/io/index.js';
import { compiledKernels, useBackend } from '../support/backends.js';
import { expectClose } from '../support/compare.js';
import type { Host } from './scan-support.js';
import { runSsd, type SsdData } from './ssd-support.js';

interface Golden {
  readonly case: number;
  readonly dt_softplus: boolean;
  readonly dt_limit: [number, number] | null;
  readonly shape: Record<'B' | 'L' | 'H' | 'P' | 'G' | 'N', number>;
}

const folder = new URL('../fixtures/goldens/mamba2/', import.meta.url);
const goldens = (JSON.parse(readFileSync(new URL('ssd-cases.json', folder), 'utf8')) as Golden[]).map((golden) => ({
  ...golden,
  tensors: read(`ssd-${golden.case}.safetensors`),
}));

/** Names in the files, made by PyTorch in float64, and here; and the shape here, where heads and what they hold are one axis. */
const inputs: Record<string, readonly [name: string, shape?: (s: Golden['shape']) => number[]]> = {
  x: ['x', ({ B, L, H, P }) => [B, L, H * P]],
  dt: ['delta'],
  A: ['A'],
  B: ['B', ({ B, L, G, N }) => [B, L, G * N]],
  C: ['C', ({ B, L, G, N }) => [B, L, G * N]],
  D: ['D'],
  z: ['z', ({ B, L, H, P }) => [B, L, H * P]],
  dt_bias: ['deltaBias'],
  initial_states: ['initialState'],
  dy: ['dy', ({ B, L, H, P }) => [B, L, H * P]],
  dfinal_states: ['dFinalState'],
};
const resultNames = { y: 'y', final_states: 'finalState' };

function read(file: string): Map<string, Host> {
  const { tensors } = parseSafetensors(readFileSync(new URL(file, folder)), file);
  return new Map([...tensors].map(([name, { dtype, shape, bytes }]) => {
    expect(dtype).toBe(name === 'seq_idx' ? 'I32' : 'F64');
    const { buffer } = Uint8Array.from(bytes);
    return [name, { shape, values: dtype === 'I32' ? new Int32Array(buffer) : new Float64Array(buffer) }];
  }));
}

/** The official code compares ids with the one before, which is 0 before the first position: so far the initial state's document goes. */
function startsOf({ shape, values }: Host): Host {
  const [, L = 0] = shape;
  return { shape, values: Int32Array.from({ length: values.length }, (_, i) => Number(values[i] !== (i % L === 0 ? 0 : values[i - 1]))) };
}

function dataOf({ shape, tensors }: (typeof goldens)[number]): SsdData {
  const data = Object.fromEntries(
    Object.entries(inputs).flatMap(([file, [name, shaped]]) => {
      const host = tensors.get(file);
      if (host === undefined) return [];
      const ownShape = shaped?.(shape) ?? (file === 'D' ? [host.values.length] : host.shape);
      return [[name, { shape: ownShape, values: host.values }] as const];
    }),
  );
  const ids = tensors.get('seq_idx');
  return ids ? { ...data, sequenceStarts: startsOf(ids) } : data;
}

describe.each([
  { name: 'reference', kind: 'reference' as const, options: {}, limit: 1e-12 },
  ...compiledKernels.map((kernels) => ({ name: kernels, kind: 'cpu' as const, options: { kernels }, limit: 1e-5 })),
])('ssd against PyTorch on $name', ({ kind, options, limit }) => {
  const backend = useBackend(kind, options);
  test.each(goldens.flatMap((golden) => [undefined, 7].map((chunk) => ({ ...golden, chunk }))))('ssd-$case, chunk $chunk', async ({ chunk, ...golden }) => {
    const { tensors, dt_softplus: deltaSoftplus, dt_limit: deltaLimits, shape } = golden;
    const results = await runSsd(backend(), dataOf(golden), { groups: shape.G, deltaSoftplus, deltaLimits: deltaLimits ?? undefined, chunk });
    const gradients = Object.entries(inputs).filter(([file]) => tensors.has(`d_${file}`)).map(([file, [name]]) => [`d_${file}`, `d${name}`]);
    const expected = [...Object.entries(resultNames), ...gradients] as [string, string][];
    expect(expected.map(([file]) => file).sort(), 'everything in the file is compared').toEqual(
      [...tensors.keys()].filter((name) => name.startsWith('d_') || name in resultNames).sort(),
    );
    for (const [file, name] of expected) expectClose(results[name] ?? [], tensors.get(file)?.values ?? [], limit, name);
  });
});
