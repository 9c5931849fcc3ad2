import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** A GPU in software, of Debian's chromium: tests of WebGPU need no other. */
const swiftShader = '/usr/lib/chromium/vk_swiftshader_icd.json';

/** The files that take minutes come first, so that no worker is left with one of them at the end. */
class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const isLong = ({ moduleId }: TestSpecification) => /[/\\]test[/\\](webgpu[/\\]|browser[/\\]|cli[/\\](interruption|faults)|ops[/\\](divisions|operations)|models[/\\](conformance|golden))/.test(moduleId);
    const sorted = await super.sort(files);
    return [...sorted.filter(isLong), ...sorted.filter((file) => !isLong(file))];
  }
}

export default defineConfig({
  resolve: { alias: { '#platform': fileURLToPath(new URL('src/platform/node.ts', import.meta.url)) } },
  test: {
    include: ['test/**/*.test.ts', 'src/**/*.test.ts'],
    reporters: process.env['CI'] === 'true' ? ['default', './test/support/file-seconds.ts'] : ['default'],
    globalSetup: ['test/support/build-dist.ts'],
    env: { ELAPID_GPU_CHECKS: '1', ...(existsSync(swiftShader) ? { VK_ICD_FILENAMES: swiftShader } : {}) },
    pool: 'forks',
    maxWorkers: 2,
    // Files share the modules of their worker: to import them took longer than many a file's tests.
    isolate: false,
    sequence: { sequencer: LongestFirst },
    testTimeout: 120_000,
    hookTimeout: 120_000,
  },
});
