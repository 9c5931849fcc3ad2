import { cpSync, mkdirSync, realpathSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, test } from 'vitest';
import { mambaConfig, LanguageModel, saveModel, mambaFamily } from '../../src/models/index.js';
import { useBackend } from '../support/backends.js';
import { runCli, startCli } from '../support/cli.js';
import { useFolder } from '../support/folders.js';

const root = fileURLToPath(new URL('../../', import.meta.url));

describe('the package where no native kernels were built', () => {
  const backend = useBackend('cpu', { kernels: 'wasm', threads: 1 });
  const path = useFolder();
  const generate = () => ['generate', path('model'), 'abc', '-t', '0', '-n', '20'];
  const elapid = (...args: readonly string[]) => startCli(args, path('package', 'dist/cli/main.js')).result;

  beforeAll(async () => {
    mkdirSync(path('package'));
    for (const name of ['dist', 'wasm', 'package.json']) cpSync(join(root, name), path('package', name), { recursive: true });
    symlinkSync(realpathSync(join(root, 'node_modules')), path('package', 'node_modules'));
    const model = LanguageModel.initial(mambaFamily, mambaConfig({ vocabularySize: 256, dModel: 16, layers: 2, tiedHead: false }), backend(), 4);
    await saveModel(model, path('model'));
    model.dispose();
  });

  test('says on stderr that the wasm kernels serve, and works', async () => {
    const { code, stdout, stderr } = await elapid(...generate());
    expect(stderr).toMatch(/^elapid: the wasm kernels serve: no native kernels were built for this machine \(npm rebuild elapid.*\)\n$/);
    const wasm = await runCli(...generate(), '--kernels', 'wasm');
    expect({ code, stdout }).toEqual({ code: 0, stdout: wasm.stdout });
  });

  test('says nothing where the wasm kernels were asked for', async () => {
    expect(await elapid(...generate(), '--kernels', 'wasm')).toMatchObject({ code: 0, stderr: '' });
  });

  test('fails where native kernels were asked for', async () => {
    const { code, stderr } = await elapid(...generate(), '--kernels', 'native');
    expect(code).toBe(1);
    expect(stderr).toMatch(/^elapid: openBackend: kernels 'native' cannot run: no native kernels were built.*Hint: kernels 'wasm' always can\n$/);
  });
});
