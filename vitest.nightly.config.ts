import { defineConfig } from 'vitest/config';
import config from './vitest.config.js';

/** Tests that take too long or too much memory for every change: `npm run test:nightly`. */
export default defineConfig({
  ...config,
  test: {
    ...config.test,
    include: ['test/nightly/**/*.nightly.ts', 'test/webgpu/small-bindings.test.ts'],
    env: { ...config.test?.env, ELAPID_NIGHTLY: '1' },
    testTimeout: 1_200_000,
  },
});
