import { writeFileSync } from 'node:fs';
import { afterEach, describe, expect, test } from 'vitest';
import { platform } from '#platform';
import { threadCount } from '../../src/backend/cpu/threads.js';
import { openNativeEngine, type Addon } from '../../src/backend/cpu/native-engine.js';
import { openBackend } from '../../src/backend/open.js';
import { add } from '../../src/ops/elementwise/elementwise.js';
import { scope, tensor } from '../../src/tensor/index.js';
import { compiledKernels } from '../support/backends.js';
import { runShell } from '../support/cli.js';
import { useFolder } from '../support/folders.js';

const bounds = { most: 1024, unasked: 64 };
const engines = compiledKernels.filter((kernels, i) => i === 0 || kernels === 'wasm');
const processors = platform.processors;

/** Makes the machine one of so many processors; undone after the test. */
function pretend(count: number): void {
  Object.assign(platform, { processors: count });
}

afterEach(() => {
  pretend(processors);
});

describe('how many threads are started', () => {
  test.each([
    [1, 1], [2, 2], [63, 63], [64, 64], [65, 64], [96, 64], [128, 64], [256, 64], [1024, 64],
    // Surroundings that say nothing sensible.
    [0, 1], [0.5, 1], [NaN, 1],
  ])('%d processors, nothing asked: %d', (count, threads) => {
    expect(threadCount(undefined, count, bounds)).toBe(threads);
  });

  test.each([1, 2, 64, 65, 96, 1024])('%d asked: as many, whatever the processors', (asked) => {
    for (const count of [1, 2, 2048]) expect(threadCount(asked, count, bounds)).toBe(asked);
  });

  test.each([
    [0, '0'], [-1, '-1'], [1.5, '1.5'], [NaN, 'NaN'], [Infinity, 'Infinity'], [1025, '1025'], ['auto', "'auto'"], ['4', "'4'"], [4n, '4'], [null, 'null'],
  ])('%s asked: an error', (asked, got) => {
    expect(() => threadCount(asked as number, 2, bounds)).toThrow(
      `openBackend: threads is ${got}; expected an integer from 1 to 1024. Hint: leave it out for one a processor, at most 64`,
    );
  });
});

describe.each(engines)('%s kernels', (kernels) => {
  const [unasked, most] = kernels === 'wasm' ? [16, 256] : [64, 1024];
  // Workers of wasm take their time to start.
  const machines = kernels === 'wasm' ? [1024] : [96, 128, 256, 1024];

  test.each(machines)('a machine of %d processors is served', async (count) => {
    pretend(count);
    const backend = await openBackend('cpu', { kernels });
    expect(backend.description).toContain(`${unasked} threads`);
    await backend.close();
  });

  test.each([0, 1.5, NaN, 'auto', 4096])('threads: %s is refused', async (threads) => {
    await expect(openBackend('cpu', { kernels, threads: threads as number })).rejects.toThrow(`expected an integer from 1 to ${most}`);
  });

  test.each(kernels === 'wasm' ? [10] : [10, 96, 1024])('%d threads on fewer processors give the results of one', async (threads) => {
    const results: number[][] = [];
    for (const count of [1, threads]) {
      const backend = await openBackend('cpu', { kernels, threads: count });
      // Jobs of one task, of fewer tasks than threads, and of more.
      for (const size of [3, 50_000, 200_000]) {
        const sum = scope(() => {
          let x = tensor(backend, Float32Array.from({ length: size }, (_, i) => i % 1000), [size]);
          for (let i = 0; i < 20; i++) x = add(x, x);
          return x;
        });
        const values = await sum.data();
        expect([values[0], values[1], values[size - 1]]).toEqual([0, 2 ** 20, ((size - 1) % 1000) * 2 ** 20]);
        results.push([...values.slice(0, 100)]);
        sum.dispose();
      }
      await backend.close();
    }
    expect(results.slice(3)).toEqual(results.slice(0, 3));
  });
});

describe('a system that refuses threads', () => {
  const open = (started: number) => {
    const closed: object[] = [];
    const addon: Partial<Addon> = {
      open: () => ({}),
      threads: () => started,
      maxThreads: () => 1024,
      bf16Unit: () => '',
      signatures: () => [],
      close: (engine) => void closed.push(engine),
    };
    return { closed, engine: (asked?: number) => openNativeEngine(addon as Addon, 'avx2', asked) };
  };

  test('gets by with those it gave, unasked', () => {
    pretend(96);
    expect(open(12).engine().description).toBe('native AVX2 kernels, 12 threads');
  });

  test('is named where more were asked for, and nothing is left open', () => {
    const { closed, engine } = open(12);
    expect(() => engine(40)).toThrow(/^openBackend: the system started 12 of 40 threads\. Hint: fewer/);
    expect(closed).toHaveLength(1);
  });
});

describe('the command', () => {
  const path = useFolder();
  const generate = (options: string, count: number) => {
    const preload = path('processors.mjs');
    writeFileSync(preload, `import os from 'node:os';\nimport { syncBuiltinESMExports } from 'node:module';\nos.availableParallelism = () => ${count};\nsyncBuiltinESMExports();\n`);
    return runShell(`NODE_OPTIONS="--import=$1" elapid generate stories Once -n 3 -t 0 ${options}`, preload);
  };

  test('runs on many processors without options', async () => {
    const [many, one] = [await generate('', 96), await generate('--threads 1', 96)];
    expect(many).toMatchObject({ code: 0, stdout: one.stdout });
  });

  test.each([
    ['1.5', 'expected an integer ≥ 1'],
    ['auto', 'expected an integer ≥ 1'],
    ['5000', /threads is 5000; expected an integer from 1 to \d+\. Hint: leave it out for one a processor/],
  ])('--threads %s is refused', async (threads, message) => {
    const { code, stderr } = await generate(`--threads ${threads}`, 128);
    expect(code).not.toBe(0);
    expect(stderr).toMatch(message);
  });
});
