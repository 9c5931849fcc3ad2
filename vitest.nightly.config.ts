import { defineConfig } from 'vitest/config';
import config from './vitest.config.js';

/** What takes too long or too much memory for every change, and all cases of the operations: `npm run test:nightly`. */
export default defineConfig({
  ...config,
  test: {
    ...config.test,
    include: ['test/nightly/**/*.nightly.ts', 'test/{browser,ops,webgpu}/**/*.test.ts'],
    env: { ...config.test?.env, ELAPID_NIGHTLY: '1' },
    testTimeout: 1_200_000,
  },
});
