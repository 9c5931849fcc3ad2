import { defineConfig } from 'vitest/config';
import config from './vitest.config.js';

/** What takes too long or too much memory for every change, all cases of the operations, all of the models on WebGPU: `npm run test:nightly`. */
export default defineConfig({
  ...config,
  test: {
    ...config.test,
    include: ['test/nightly/**/*.nightly.ts', 'test/{browser,ops,webgpu}/**/*.test.ts', 'test/models/{conformance,golden,moe-mamba,vision-mamba}.test.ts', 'test/tasks/tasks.test.ts'],
    env: { ...config.test?.env, ELAPID_NIGHTLY: '1' },
    testTimeout: 1_200_000,
  },
});
