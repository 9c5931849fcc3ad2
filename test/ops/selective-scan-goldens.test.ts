import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { parseSafetensors } from '../../src/io/index.js';
import { compiledKernels, useBackend } from '../support/backends.js';
import { expectClose } from '../support/compare.js';
import { runScan, type Host, type ScanData } from './scan-support.js';

const folder = new URL('../fixtures/goldens/', import.meta.url);
const goldens = (JSON.parse(readFileSync(new URL('scan-cases.json', folder), 'utf8')) as { case: number; delta_softplus: boolean }[]).map(
  ({ case: number, delta_softplus: deltaSoftplus }) => ({ number, deltaSoftplus, tensors: read(`scan-${number}.safetensors`) }),
);

/** Names in the files, made by PyTorch in float64, and here. */
const inputNames = { u: 'u', delta: 'delta', A: 'A', B: 'B', C: 'C', D: 'D', z: 'z', delta_bias: 'deltaBias', h0: 'initialState', dy: 'dy', dh_last: 'dFinalState' };
const resultNames = { y: 'y', h_last: 'finalState' };

function read(file: string): Map<string, Host> {
  const { tensors } = parseSafetensors(readFileSync(new URL(file, folder)), file);
  return new Map([...tensors].map(([name, { dtype, shape, bytes }]) => {
    expect(dtype).toBe('F64');
    return [name, { shape, values: new Float64Array(Uint8Array.from(bytes).buffer) }];
  }));
}

describe.each([
  { name: 'reference', kind: 'reference' as const, options: {}, limit: 1e-12 },
  ...compiledKernels.map((kernels) => ({ name: kernels, kind: 'cpu' as const, options: { kernels }, limit: 1e-5 })),
])('selectiveScan against PyTorch on $name', ({ kind, options, limit }) => {
  const backend = useBackend(kind, options);
  test.each(goldens)('scan-$number', async ({ tensors, deltaSoftplus }) => {
    const given = Object.entries(inputNames).filter(([file]) => tensors.has(file));
    const data = Object.fromEntries(given.map(([file, name]) => [name, tensors.get(file)])) as ScanData;
    const results = await runScan(backend(), data, { deltaSoftplus });
    const gradients = given.filter(([file]) => tensors.has(`d_${file}`)).map(([file, name]) => [`d_${file}`, `d${name}`]);
    const expected = [...Object.entries(resultNames), ...gradients] as [string, string][];
    expect(expected.map(([file]) => file).sort(), 'everything in the file is compared').toEqual(
      [...tensors.keys()].filter((name) => name.startsWith('d_') || name in resultNames).sort(),
    );
    for (const [file, name] of expected) expectClose(results[name] ?? [], tensors.get(file)?.values ?? [], limit, name);
  });
});
