import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { sharedCase } from '../fixtures.js';
import { runShell } from '../support/cli.js';

const elapid = fileURLToPath(new URL('../support/earlier-names', import.meta.url));

/** What each script prints and how it ends, in processes of their own: a fault may end them. */
const scripts: [script: string, kernels: string, code: number, output: RegExp][] = [
  ['dispose-while-generating.mjs', 'auto', 0, /^long request: DisposedError: \w+: the model was disposed ; live buffers 0\n$/],
  ['dispose-while-generating.mjs', 'wasm', 0, /^long request: DisposedError: \w+: the model was disposed ; live buffers 0\n$/],
  ['two-trainers.mjs', 'auto', 1, /ArgumentError: AdamW: parameter \S+ is updated by another optimiser/],
  ['two-train-steps-at-once.mjs', 'auto', 0, /^one by one (losses .*)\nat once {4}\1\nlive buffers 0\n$/],
  [
    'wrong-arguments.mjs',
    'auto',
    0,
    new RegExp(
      [
        'add of two backends → ArgumentError: add: b is on another backend.* \\[left: 0\\]',
        'extent −1 → ShapeError: .* \\[left: 0\\]',
        'extent 1.5 → ShapeError: .* \\[left: 0\\]',
        'extent NaN → ShapeError: .* \\[left: 0\\]',
        "dtype 'float32' → DTypeError: tensor: dtype is 'float32'.* \\[left: 0\\]",
        'BigInt64Array → ArgumentError: tensor: values .* \\[left: 0\\]',
        'values undefined → ArgumentError: tensor: values is undefined.* \\[left: 0\\]',
        'model.loss outside of a scope, freed → no error \\[left: 0\\]',
        'target beyond the vocabulary → ArgumentError: tokenLosses: an element of targets is 9999.*',
        'two trainers on one model, all freed → ArgumentError: AdamW: .*',
      ].join('\n'),
    ),
  ],
];

describe('scripts beside the repository', () => {
  for (const [script, kernels, code, output] of scripts) {
    const file = sharedCase(script);
    test.skipIf(file === undefined)(`${script}, kernels ${kernels}${file === undefined ? ' [skipped: ../shared/cases lacks it]' : ''}`, async () => {
      const ended = await runShell('ELAPID=$1 KERNELS=$2 "$node" "$3" 2>&1', elapid, kernels, file ?? '');
      expect(ended.stdout).toMatch(output);
      expect(ended.code).toBe(code);
    });
  }

  const processors = sharedCase('many-processors.mjs');
  test.skipIf(processors === undefined)(`many-processors.mjs${processors === undefined ? ' [skipped: ../shared/cases lacks it]' : ''}`, async () => {
    const ended = await runShell('CORES=96 "$node" --import "$1" "$cli" generate stories Once -n 4 --seed 1', processors ?? '');
    expect(ended).toMatchObject({ code: 0, stdout: expect.stringMatching(/^Once.+\n$/s) as string });
  });
});
