import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

/** A GPU in software, of Debian's chromium: tests of WebGPU need no other. */
const swiftShader = '/usr/lib/chromium/vk_swiftshader_icd.json';

export default defineConfig({
  resolve: { alias: { '#platform': fileURLToPath(new URL('src/platform/node.ts', import.meta.url)) } },
  test: {
    include: ['test/**/*.test.ts', 'src/**/*.test.ts'],
    reporters: process.env['CI'] === 'true' ? ['default', './test/support/file-seconds.ts'] : ['default'],
    globalSetup: ['test/support/build-dist.ts'],
    env: { ELAPID_GPU_CHECKS: '1', ...(existsSync(swiftShader) ? { VK_ICD_FILENAMES: swiftShader } : {}) },
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 120_000,
    hookTimeout: 120_000,
  },
});
