import { defineConfig } from 'vitest/config';
import config from './vitest.config.js';

/** Tests that take too long or too much memory for every change: `npm run test:nightly`. */
export default defineConfig({ ...config, test: { ...config.test, include: ['test/nightly/**/*.nightly.ts'], testTimeout: 1_200_000 } });
