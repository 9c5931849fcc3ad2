import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { sharedCase } from '../fixtures.js';
import { runShell } from '../support/cli.js';

const dist = fileURLToPath(new URL('../../dist', import.meta.url));

/** What each script prints and how it ends, in processes of their own: a fault may end them. */
const scripts: [script: string, kernels: string, code: number, output: RegExp][] = [
  ['dispose-while-generating.mjs', 'auto', 0, /^long request: DisposedError: step: the model was disposed ; live buffers 0\n$/],
  ['dispose-while-generating.mjs', 'wasm', 0, /^long request: DisposedError: step: the model was disposed ; live buffers 0\n$/],
  ['two-trainers.mjs', 'auto', 1, /ArgumentError: AdamW: parameter \S+ is updated by another optimiser/],
  ['two-train-steps-at-once.mjs', 'auto', 0, /^one by one (losses .*)\nat once {4}\1\nlive buffers 0\n$/],
];

describe('scripts beside the repository', () => {
  for (const [script, kernels, code, output] of scripts) {
    const file = sharedCase(script);
    test.skipIf(file === undefined)(`${script}, kernels ${kernels}${file === undefined ? ' [skipped: ../shared/cases lacks it]' : ''}`, async () => {
      const ended = await runShell('ELAPID=$1 KERNELS=$2 "$node" "$3" 2>&1', dist, kernels, file ?? '');
      expect(ended.stdout).toMatch(output);
      expect(ended.code).toBe(code);
    });
  }
});
