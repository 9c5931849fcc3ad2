import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { saveModel } from '../../src/models/index.js';
import { useBackend } from '../support/backends.js';
import { runHere } from '../support/run-here.js';
import { useFolder } from '../support/folders.js';
import { goldenPath } from '../support/goldens.js';
import { smallModel } from '../support/models.js';

describe('--verify', () => {
  const backend = useBackend('cpu', { kernels: 'auto', threads: 1 });
  const path = useFolder();

  beforeAll(async () => {
    const model = smallModel(backend(), { vocabularySize: 256 });
    await saveModel(model, path('good'));
    model.dispose();
    mkdirSync(path('damaged'));
    copyFileSync(path('good', 'config.json'), path('damaged', 'config.json'));
    const bytes = readFileSync(path('good', 'model.safetensors'));
    bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
    writeFileSync(path('damaged', 'model.safetensors'), bytes);
    writeFileSync(path('text'), 'abcdefgh');
  });

  test.each([
    ['inspect', []],
    ['generate', ['ab', '-n', '2', '--threads', '1']],
    ['eval', [path, '--threads', '1']],
    ['quantize', ['--out', path, '--threads', '1']],
  ])('of %s tells a flipped bit', async (command, more) => {
    const rest = more.map((one) => (typeof one === 'string' ? one : one(command === 'eval' ? 'text' : 'out')));
    if (command === 'inspect') expect((await runHere(command, path('good'), '--verify')).code).toBe(0);
    const damaged = await runHere(command, path('damaged'), ...rest, '--verify');
    expect(damaged.code).toBe(1);
    expect(damaged.stderr).toMatch(/damaged\/model\.safetensors, key 'backbone\.norm_f\.weight', byte \d+: the tensor is damaged: its checksum is/);
  });

  test('says that there is nothing to verify with', async () => {
    const { code, stderr } = await runHere('inspect', goldenPath('hf-mamba'), '--verify');
    expect(code).toBe(1);
    expect(stderr).toContain('the file has no checksum of this tensor to verify it with');
    expect((await runHere('inspect', goldenPath('hf-mamba/config.json'), '--verify')).stderr).toContain('--verify is given with');
  });
});
