import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { fromFloat32 } from '../../src/io/index.js';
import { saveModel } from '../../src/models/index.js';
import { sharedCase } from '../fixtures.js';
import { useBackend } from '../support/backends.js';
import { rewriteSafetensors } from '../support/checkpoints.js';
import { runHere } from '../support/run-here.js';
import { useFolder } from '../support/folders.js';
import { goldenPath } from '../support/goldens.js';
import { smallModel } from '../support/models.js';

const golden = goldenPath('hf-mamba');

describe('models with faults', () => {
  const backend = useBackend('cpu', { threads: 1 });
  const path = useFolder();
  const config = JSON.parse(readFileSync(`${golden}/config.json`, 'utf8')) as Record<string, unknown>;

  /** A folder with the weights of the golden and another config. */
  const withConfig = (name: string, change: Record<string, unknown>): string => {
    mkdirSync(path(name));
    copyFileSync(`${golden}/model.safetensors`, path(name, 'model.safetensors'));
    writeFileSync(path(name, 'config.json'), JSON.stringify({ ...config, ...change }));
    return path(name);
  };

  beforeAll(async () => {
    const model = smallModel(backend(), { vocabularySize: 256 });
    await saveModel(model, path('nan'));
    model.dispose();
    const weights = path('nan', 'model.safetensors');
    writeFileSync(
      weights,
      rewriteSafetensors(readFileSync(weights), ({ tensors }) => {
        const key = 'backbone.layers.1.mixer.A_log';
        tensors.set(key, { dtype: 'F32', shape: [40, 5], bytes: fromFloat32(Float32Array.from({ length: 200 }, (_, i) => (i === 7 ? NaN : 1)), 'F32') });
      }),
    );
    writeFileSync(path('text.txt'), 'Call me Ishmael. '.repeat(20));
  });

  test.each<{ name: string; args: () => string[]; message: RegExp }>([
    { name: 'layers that the file has not', args: () => ['inspect', withConfig('layers', { num_hidden_layers: 1e9 })], message: /key 'num_hidden_layers': is 1000000000; expected an integer from 1 to 4096/ },
    { name: 'channels beyond all models', args: () => ['inspect', withConfig('expand', { expand: 1e9, intermediate_size: undefined }), '--json'], message: /key 'expand': makes 32000000000 channels/ },
    { name: 'layers in a run', args: () => ['train', path('text.txt'), '--out', path('run'), '--layers', '1000000000'], message: /layers is 1000000000; expected an integer from 1 to 4096/ },
    { name: 'parameters beyond the memory', args: () => ['train', path('text.txt'), '--out', path('run'), '--d-model', '300000', '--layers', '1'], message: /the parameters would take [\d.]+ GB; this machine has [\d.]+ GB/ },
    { name: 'a name almost right', args: () => ['generate', 'storeis', 'x'], message: /^elapid: storeis: no such file or folder\. Hint: did you mean 'stories'\?$/m },
    { name: 'NaN in what is evaluated', args: () => ['eval', path('nan'), path('text.txt'), '--json'], message: /evaluate: the weight 'backbone\.layers\.1\.mixer\.A_log' holds 1 value that is not finite \(of 200\), the first NaN at \[1,2\]/ },
    { name: 'NaN in what is quantized', args: () => ['quantize', path('nan'), '--out', path('out')], message: /quantize: the weight 'backbone\.layers\.1\.mixer\.A_log' holds 1 value that is not finite/ },
  ])('$name', async ({ args, message }) => {
    const { code, stdout, stderr } = await runHere(...args());
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/^elapid: [^\n]+\n$/);
    expect(stderr).toMatch(message);
    for (const folder of ['run', 'out']) expect(existsSync(path(folder)), folder).toBe(false);
  });

  test('warnings are printed, and the work is done', async () => {
    const { code, stdout, stderr } = await runHere('inspect', withConfig('strange', { hidden_sise: 3, eos_token_id: [0, 5] }), '--json');
    expect(code).toBe(0);
    expect(stderr).toMatch(/^elapid: warning: \S+config\.json, key 'hidden_sise': is not a key that is known here, and has no effect\. Hint: did you mean 'hidden_size'\?\n$/);
    expect(JSON.parse(stdout)).toMatchObject({ config: { endOfText: [0, 5] }, parameters: { total: expect.any(Number) as number } });
  });

  test('quantize takes generation_config.json along', async () => {
    const folder = withConfig('ends', {});
    writeFileSync(path('ends', 'generation_config.json'), '{"eos_token_id": [3, 4]}');
    const { code, stderr } = await runHere('quantize', folder, '--out', path('quantized'));
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(readFileSync(path('quantized', 'generation_config.json'), 'utf8')).toBe('{"eos_token_id": [3, 4]}');
    expect(JSON.parse(readFileSync(path('quantized', 'config.json'), 'utf8'))).toMatchObject({ eos_token_id: [3, 4] });
  });
});

describe('cases from elsewhere', () => {
  const path = useFolder();
  const note = (name: string) => `${name}${sharedCase(name) === undefined ? ' [skipped: ../shared/cases is absent]' : ''}`;
  const nan = sharedCase('nan-weight') ?? '';
  const ends = sharedCase('eos-in-generation-config') ?? '';
  const unknown = sharedCase('ssm-cfg-unknown-key') ?? '';

  test.skipIf(nan === '')(note('nan-weight'), async () => {
    writeFileSync(path('text.txt'), 'Call me Ishmael. ');
    for (const args of [['eval', nan, path('text.txt'), '--json'], ['quantize', nan, '--out', path('out')], ['generate', nan, 'x', '-n', '3']]) {
      const { code, stderr } = await runHere(...args);
      expect(code).toBe(1);
      expect(stderr).toContain("'backbone.layers.0.mixer.in_proj.weight'");
      expect(stderr).toContain('holds 1 value that is not finite');
    }
    expect(existsSync(path('out'))).toBe(false);
  });

  test.skipIf(ends === '')(note('eos-in-generation-config'), async () => {
    expect(await runHere('generate', ends, 'hello', '-n', '4', '-t', '0')).toMatchObject({ code: 0, stdout: 'hello\n', stderr: '' });
  });

  test.skipIf(unknown === '')(note('ssm-cfg-unknown-key'), async () => {
    const { code, stderr } = await runHere('inspect', unknown);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^elapid: \S+config\.json, key 'ssm_cfg\.device': is not a key that is known here\n$/);
  });
});
