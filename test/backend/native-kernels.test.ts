import { afterEach, describe, expect, test, vi } from 'vitest';
import { platform } from '#platform';
import type { Addon } from '../../src/backend/cpu/native-engine.js';
import { openBackendWithNotice } from '../../src/backend/open.js';

const loaded = platform.loadAddon();
const real = 'addon' in loaded ? (loaded.addon as Addon) : undefined;

afterEach(() => {
  vi.restoreAllMocks();
});

/** An addon with kernels for `built` on a processor that runs `runs`. */
function pretend(built: string[], runs: string[]): void {
  vi.spyOn(platform, 'loadAddon').mockReturnValue({
    addon: { ...real, targets: () => built.filter((name) => runs.includes(name)), processorTargets: () => runs },
  });
}

/** What serves, and what is said about it. */
async function opened(kernels: 'auto' | 'native' | 'avx512' | 'avx2' | 'sse2') {
  const { backend, notice } = await openBackendWithNotice('cpu', { kernels, threads: 1 });
  await backend.close();
  return { serves: backend.description.replace(/^cpu \(| kernels.*/g, ''), notice };
}

describe('native kernels that were built for another processor', () => {
  const forAnother =
    'the native kernels were built for another processor, and this one has AVX2 at best (to build for it: npm rebuild elapid, in a clone npm run build:native)';

  test('are not run: wasm serves and says why', async () => {
    pretend(['avx512'], ['avx2', 'sse2']);
    expect(await opened('auto')).toEqual({ serves: 'wasm SIMD128', notice: `the wasm kernels serve: ${forAnother}` });
  });

  test.each([
    ['native', forAnother],
    ['avx512', 'this processor runs AVX2, SSE2'],
    ['avx2', 'only those for another processor were built (to build all: ELAPID_NATIVE=all npm rebuild elapid, in a clone npm run build:native -- --all)'],
  ] as const)('are not run when %s is asked for', async (kernels, reason) => {
    pretend(['avx512'], ['avx2', 'sse2']);
    await expect(opened(kernels)).rejects.toThrow(`openBackend: kernels '${kernels}' cannot run: ${reason}. Hint: kernels 'wasm' always can`);
  });

  test('say that they were not built, when they are asked for', async () => {
    pretend(['avx2'], ['avx512', 'avx2', 'sse2']);
    await expect(opened('sse2')).rejects.toThrow("kernels 'sse2' cannot run: only AVX2 were built (to build all: ELAPID_NATIVE=all npm rebuild elapid, in a clone npm run build:native -- --all)");
  });

  test('of an older version are not run', async () => {
    vi.spyOn(platform, 'loadAddon').mockReturnValue({ addon: { targets: () => ['avx2'] } });
    const { serves, notice } = await opened('auto');
    expect(serves).toBe('wasm SIMD128');
    expect(notice).toBe('the wasm kernels serve: the native kernels are older than this code (to build them: npm rebuild elapid, in a clone npm run build:native)');
  });

  const name = real?.targets().at(-1) ?? '';
  test.skipIf(real === undefined)('of a lesser one serve, and say so', async () => {
    pretend([name], ['best', name]);
    const { serves, notice } = await opened('auto');
    expect(serves).toMatch(/^native/);
    expect(notice).toMatch(/^the .+ kernels serve: this processor has best, but the native kernels were built for another \(to build for it: npm rebuild elapid/);
  });

  test.skipIf(real === undefined)('of this very one say nothing', async () => {
    pretend([name], [name]);
    expect((await opened('native')).notice).toBeUndefined();
  });
});
