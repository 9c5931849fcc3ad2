import { copyFileSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { trainingText } from '../support/cli.js';
import { useFolder } from '../support/folders.js';
import { goldenPath } from '../support/goldens.js';
import { runHere } from '../support/run-here.js';

const tiny = ['--d-model', '8', '--layers', '1', '--d-state', '2', '--batch-size', '2', '--length', '8', '--threads', '1', '--steps', '2'];
const tinyTask = ['--length', '8', '--tokens', '2', '--batch-size', '2', '--examples', '2', '--threads', '1', '--steps', '1'];

describe('a folder that holds something', () => {
  const path = useFolder();

  const copyModel = (to: string) => {
    mkdirSync(path(to));
    for (const file of ['config.json', 'model.safetensors']) copyFileSync(goldenPath(`hf-mamba/${file}`), path(to, file));
  };

  beforeAll(async () => {
    writeFileSync(path('text.txt'), trainingText.slice(0, 1000));
    expect(await runHere('train', path('text.txt'), '--out', path('run'), ...tiny)).toMatchObject({ code: 0 });
    expect(await runHere('tokenize', path('text.txt'), '--out', path('shards'))).toMatchObject({ code: 0 });
    copyModel('model');
    const folderWith = (name: string, ...files: readonly string[]) => {
      mkdirSync(path(name));
      for (const file of files) writeFileSync(path(name, file), 'not to be lost');
    };
    folderWith('published', 'config.json', 'pytorch_model.bin');
    folderWith('sharded', 'model.safetensors.index.json', 'model-00001-of-00002.safetensors');
    folderWith('gguf', 'mamba-130m.Q8_0.gguf');
    folderWith('config', 'config.json');
    folderWith('tokenizer', 'tokenizer.json');
  });

  /** A folder's files with their bytes. */
  const contentOf = (folder: string) => Object.fromEntries(readdirSync(path(folder)).sort().map((file) => [file, readFileSync(path(folder, file), 'latin1')]));

  const commands = {
    train: (out: string) => ['train', path('text.txt'), '--out', out, ...tiny],
    task: (out: string) => ['task', 'selective-copying', '--out', out, ...tinyTask],
    quantize: (out: string) => ['quantize', path('model'), '--out', out, '--threads', '1'],
    tokenize: (out: string) => ['tokenize', path('text.txt'), '--out', out],
    'tokenizer train': (out: string) => ['tokenizer', 'train', path('text.txt'), '--out', out, '--vocabulary', '260'],
  };

  const contents = [
    { folder: 'run', holds: 'a run' },
    { folder: 'shards', holds: 'token shards' },
    { folder: 'model', holds: 'a model (config.json, model.safetensors)' },
    { folder: 'published', holds: 'a model (config.json, pytorch_model.bin)' },
    { folder: 'sharded', holds: 'a model (model-00001-of-00002.safetensors, model.safetensors.index.json)' },
    { folder: 'gguf', holds: 'a model (mamba-130m.Q8_0.gguf)' },
    { folder: 'config', holds: 'a model (config.json)' },
    { folder: 'tokenizer', holds: 'a tokenizer (tokenizer.json)' },
  ];
  test.each(contents)('is not touched: $folder', async ({ folder, holds }) => {
    const before = contentOf(folder);
    for (const [name, args] of Object.entries(commands)) {
      const { code, stdout, stderr } = await runHere(...args(path(folder)));
      const resume = holds === 'a run' && ['train', 'task'].includes(name) ? `--resume ${path(folder)} goes on with it; ` : '';
      expect({ code, stdout, stderr }).toEqual({
        code: 1,
        stdout: '',
        stderr: `elapid: ${name}: ${path(folder)} already holds ${holds}. Hint: ${resume}--overwrite replaces it; or name another folder\n`,
      });
      expect(contentOf(folder)).toEqual(before);
    }
  });

  test('is replaced with --overwrite: nothing of the old is left to be taken for the new, and what is no part of it stays', async () => {
    const old = ['model.safetensors.index.json', 'part-one.safetensors', 'pytorch_model.bin', 'generation_config.json', 'tokenizer.json', 'training.safetensors'];
    for (const [name, args] of Object.entries(commands)) {
      const folder = `over-${name}`;
      mkdirSync(path(folder));
      for (const file of [...old, 'config.json', 'tokens.json', '00007.tokens', 'run.json', 'task.json', 'notes.txt', 'data.bin']) writeFileSync(path(folder, file), 'old');
      writeFileSync(path(folder, 'model.safetensors.index.json'), JSON.stringify({ weight_map: { a: 'part-one.safetensors' } }));
      const replaced = await runHere(...args(path(folder)), '--overwrite');
      expect(replaced.code, replaced.stderr).toBe(0);
      expect((await runHere(...args(path(`new-${name}`)))).code).toBe(0);
      expect(readdirSync(path(folder)).sort()).toEqual([...readdirSync(path(`new-${name}`)), 'data.bin', 'notes.txt'].sort());
      expect(readFileSync(path(folder, 'notes.txt'), 'utf8')).toBe('old');
      if (name === 'tokenize') continue;
      expect(contentOf(folder)['model.safetensors']).toBe(contentOf(`new-${name}`)['model.safetensors']);
      expect(contentOf(folder)['config.json']).toBe(contentOf(`new-${name}`)['config.json']);
    }
  });

  test('keeps the old until the new is whole: a run that fails before its first checkpoint leaves it', async () => {
    const before = contentOf('model');
    writeFileSync(path('damaged.jsonl'), `${JSON.stringify({ text: trainingText.slice(0, 40) })}\n{"text":\n`);
    const { code, stderr } = await runHere('train', path('damaged.jsonl'), '--validation', path('text.txt'), '--out', path('model'), '--overwrite', ...tiny, '--steps', '40');
    expect({ code, stderr }).toMatchObject({ code: 1 });
    expect(stderr).toContain('line 2 is not JSON');
    expect(contentOf('model')).toEqual(before);
  });

  test('is not replaced by what is made of it, but for a model that is read to its end first', async () => {
    const before = contentOf('shards');
    const { code, stderr } = await runHere('train', path('shards'), '--out', path('shards'), '--overwrite', ...tiny);
    expect({ code, stderr }).toEqual({ code: 1, stderr: `elapid: train: --overwrite would remove ${path('shards')}, which the command reads. Hint: name another folder\n` });
    expect(contentOf('shards')).toEqual(before);
    copyModel('own');
    writeFileSync(path('own', 'generation_config.json'), '{"eos_token_id":[0,2]}');
    expect((await runHere('quantize', path('own'), '--out', path('other'), '--threads', '1')).code).toBe(0);
    expect((await runHere('quantize', path('own'), '--out', path('own'), '--overwrite', '--threads', '1')).code).toBe(0);
    expect(contentOf('own')).toEqual(contentOf('other'));
    expect(contentOf('own')['generation_config.json']).toBe('{"eos_token_id":[0,2]}');
  });

  test('a run that ended before its first checkpoint is begun anew', async () => {
    mkdirSync(path('early'));
    for (const file of ['task.json', 'metrics.jsonl', 'tokenizer.json', 'metrics.jsonl.tmp-7']) writeFileSync(path('early', file), '{}');
    expect((await runHere(...commands.train(path('early')))).code).toBe(0);
    expect(readdirSync(path('early')).sort()).toEqual(readdirSync(path('run')).sort());
  });

  test.each([
    { out: 'text.txt', message: /text\.txt cannot be made as a folder: a file of that name is in its place \(EEXIST\)$/ },
    { out: 'text.txt/run', message: /run cannot be made as a folder: a part of the path is a file, not a folder \(ENOTDIR\)$/ },
    { out: 'x'.repeat(300), message: /x cannot be made as a folder: the path is too long \(ENAMETOOLONG\)$/ },
  ])('no folder can be made of $out', async ({ out, message }) => {
    for (const args of Object.values(commands)) {
      const { code, stderr } = await runHere(...args(path(out)));
      expect(code).toBe(1);
      expect(stderr.trimEnd()).toMatch(message);
    }
  });

  test.each([
    { out: 'p.png', message: /expected a name that ends in \.svg/ },
    { out: '.svg', message: /expected a name that ends in \.svg/ },
    { out: 'run/metrics.jsonl', message: /expected a name that ends in \.svg/ },
    { out: 'photo.svg', message: /photo\.svg is a file that is no SVG\. Hint: --overwrite replaces it/ },
    { out: 'nowhere/p.svg', message: /p\.svg cannot be written: a folder of the path does not exist \(ENOENT\)$/ },
    { out: 'folder.svg', message: /folder\.svg cannot be written: a folder of that name is in its place/ },
  ])('plot does not write to $out', async ({ out, message }) => {
    writeFileSync(path('photo.svg'), 'not to be lost');
    mkdirSync(path('folder.svg'), { recursive: true });
    const { code, stderr } = await runHere('plot', path('run'), '--out', path(out));
    expect(code).toBe(1);
    expect(stderr.trimEnd()).toMatch(message);
    expect(readFileSync(path('photo.svg'), 'utf8')).toBe('not to be lost');
    expect(existsSync(path('p.png'))).toBe(false);
  });

  test('plot replaces a plot, and another file where it is told to', async () => {
    for (const more of [['--overwrite'], []]) {
      expect(await runHere('plot', path('run'), '--out', path('photo.svg'), ...more)).toMatchObject({ code: 0, stdout: `${path('photo.svg')}\n` });
      expect(readFileSync(path('photo.svg'), 'utf8')).toContain('<svg');
    }
    expect(await runHere('dashboard', path('text.txt'))).toMatchObject({ code: 1, stderr: `elapid: ${path('text.txt')}: is a file; expected the folder of a training run\n` });
  });

  test('a lock of each kind: held, of a dead process, of a process id that came again, of another machine', async () => {
    const lock = (folder: string, fields: object) =>
      writeFileSync(path(folder, '.elapid-lock'), JSON.stringify({ pid: process.pid, since: '2026-01-02T03:04:05.000Z', command: 'elapid train', birth: null, id: 'other', ...fields }));
    const { hostname } = await import('node:os');
    const resume = (folder: string) => runHere('train', '--resume', path(folder), '--threads', '1');
    cpSync(path('run'), path('locked'), { recursive: true });
    const stale = [
      { host: hostname(), pid: 2 ** 22 + 1 },
      { host: hostname(), pid: process.ppid, birth: 'another boot 1' },
      { host: hostname() },
      { host: 5 },
    ];
    for (const fields of stale) {
      lock('locked', fields);
      expect(await resume('locked'), JSON.stringify(fields)).toMatchObject({ code: 0 });
      expect(existsSync(path('locked', '.elapid-lock'))).toBe(false);
    }
    lock('locked', { host: hostname(), pid: process.ppid });
    const before = contentOf('locked');
    const overwriting = Object.entries(commands).map(([name, make]) => ({ name, args: [...make(path('locked')), '--overwrite'] }));
    const resuming = ['train', 'task'].map((name) => ({ name, args: [name, '--resume', path('locked')] }));
    for (const { name, args } of [...resuming, ...overwriting]) {
      const { code, stderr } = await runHere(...args);
      expect({ code, stderr }).toEqual({
        code: 1,
        stderr: `elapid: ${name}: ${path('locked')} is in use by process ${process.ppid} (elapid train, since 2026-01-02T03:04:05.000Z). Hint: wait until it has ended, or name another folder\n`,
      });
    }
    expect(contentOf('locked')).toEqual(before);
    lock('locked', { host: 'elsewhere' });
    expect((await resume('locked')).stderr).toMatch(/by process \d+ on elsewhere \(.*if it does not, delete \S+locked\/\.elapid-lock\n$/);
    writeFileSync(path('locked', '.elapid-lock'), '');
    expect((await resume('locked')).code).toBe(0);
  });

  test('of many that take over the lock of a dead process at once, one gets it', async () => {
    const { platform } = await import('../../src/platform/node.js');
    mkdirSync(path('contended'));
    for (let round = 0; round < 3; round++) {
      writeFileSync(path('contended', '.elapid-lock'), '{}');
      const taken = await Promise.all(Array.from({ length: 8 }, () => platform.lockFolder(path('contended'), 'elapid train')));
      const locks = taken.flatMap((one) => ('release' in one ? [one] : []));
      expect(locks).toHaveLength(1);
      locks[0]?.release();
      expect(readdirSync(path('contended'))).toEqual([]);
    }
  });

  test('a folder that was made for nothing does not stay', async () => {
    const { code } = await runHere('train', path('nowhere.txt'), '--out', path('made/for/nothing'), ...tiny);
    expect(code).toBe(1);
    expect(existsSync(path('made'))).toBe(false);
  });
});
