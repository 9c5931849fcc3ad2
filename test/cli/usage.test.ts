import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { runCli } from '../support/cli.js';
import { runHere } from '../support/run-here.js';
import { useFolder } from '../support/folders.js';
import { goldenPath } from '../support/goldens.js';

const onBackend = ['--backend', '--threads', '--kernels', '--debug', '--help'];
const computing = [...onBackend, '--precision'];
const commands: Record<string, { arguments: string[]; options: string[] }> = {
  train: {
    arguments: ['[text...]'],
    options: [
      ...['--out', '--overwrite', '--resume', '--tokenizer', '--steps', '--max-minutes', '--model', '--size', '--d-model', '--layers', '--d-state', '--d-conv', '--expand', '--set', '--batch-size'],
      ...['--length', '--accumulation', '--learning-rate', '--warmup', '--final-fraction', '--weight-decay', '--clip', '--seed'],
      ...['--document-separator', '--text-field', '--validation', '--validation-share', '--evaluate-every', '--save-every'],
      ...['--on-divergence', '--recompute', '--sample-every', '--dashboard', ...computing],
    ],
  },
  tokenize: { arguments: ['<files...>'], options: ['--out', '--overwrite', '--tokenizer', '--document-separator', '--text-field', '--debug', '--help'] },
  'tokenizer train': { arguments: ['<files...>'], options: ['--out', '--overwrite', '--vocabulary', '--document-separator', '--text-field', '--debug', '--help'] },
  generate: {
    arguments: ['<model>', '[prompt]'],
    options: [
      ...['--max-tokens', '--temperature', '--top-k', '--top-p', '--min-p', '--repetition-penalty', '--seed', '--stop', '--dtype', '--verify', ...computing],
      ...['--draft', '--draft-tokens', '--lossy-rank', '--cache-dtype'],
    ],
  },
  eval: {
    arguments: ['<model>', '[text]'],
    options: ['--task', '--data', '--document-separator', '--text-field', '--chunk', '--limit', '--json', '--dtype', '--verify', ...computing],
  },
  compare: {
    arguments: ['<model...>', '<text>'],
    options: [
      ...['--document-separator', '--text-field', '--out', '--overwrite', '--dtype', '--verify', '--length', '--limit', '--context', '--json'],
      ...computing,
    ],
  },
  inspect: { arguments: ['<model>'], options: ['--dtype', '--verify', '--json', '--debug', '--help'] },
  quantize: { arguments: ['<model>'], options: ['--dtype', '--verify', '--out', '--overwrite', ...onBackend] },
  task: {
    arguments: ['[task]'],
    options: [
      ...['--out', '--overwrite', '--resume', '--preset', '--ssm', '--length', '--tokens', '--steps', '--batch-size', '--learning-rate'],
      ...['--test-length', '--examples', '--seed', ...computing],
    ],
  },
  dashboard: { arguments: ['<run>'], options: ['--port', '--debug', '--help'] },
  plot: { arguments: ['<runs...>'], options: ['--out', '--overwrite', '--x', '--debug', '--help'] },
};

const model = goldenPath('hf-mamba');

describe('help', () => {
  test.each(Object.entries(commands))('of %s has its arguments, all its options and an example', async (name, expected) => {
    const { code, stdout, stderr } = await runHere(...name.split(' '), '--help');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toContain(`Usage: elapid ${name} [options] ${expected.arguments.join(' ')}`);
    const listed = [...stdout.matchAll(/^ {2}(?:-\w, )?(--[\w-]+)(.*)$/gm)];
    expect(listed.map(([, option]) => option).sort()).toEqual([...expected.options].sort());
    for (const [line, , description] of listed) expect(description, line).toMatch(/ {2}\S/);
    expect(stdout).toMatch(new RegExp(`Examples?:\\n +.*elapid ${name}`));
  });

  test('of the program has every command, the exit codes and where to start', async () => {
    const { code, stdout } = await runCli('--help');
    expect(code).toBe(0);
    for (const [name = ''] of Object.keys(commands).map((all) => all.split(' '))) expect(stdout).toMatch(new RegExp(`^ {2}${name} .* {2}\\w`, 'm'));
    expect(stdout).toContain('Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.');
    // First what needs nothing but the package, then a model of one's own.
    expect(stdout).toMatch(/Start here:\n {2}elapid generate stories "Once upon a time" .*\n {2}elapid train data\/pride-and-prejudice\.txt /);
    expect(stdout).toMatch(/Commands:\n {2}generate /);
  });

  test('--version is that of package.json', async () => {
    const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string };
    expect(await runCli('--version')).toMatchObject({ code: 0, stdout: `${version}\n`, stderr: '' });
  });
});

describe('wrong usage exits with 2 and points to the help', () => {
  test.each([
    { args: ['trian'], message: "unknown command 'trian'" },
    { args: ['inspect'], message: "missing required argument 'model'" },
    { args: ['inspect', model, 'more'], message: 'too many arguments' },
    { args: ['train', 'text', '--out', 'run', '--size', '13m'], message: "'13m' is invalid. Allowed choices for mamba are 130m, 370m, 790m, 1.4b, 2.8b, mambabyte-353m, mambabyte-972m, mambabyte-1.6b." },
    { args: ['train', 'text', '--out', 'run', '--model', 'falcon-mamba', '--size', '130m'], message: "'130m' is invalid. Allowed choices for falcon-mamba are 7b." },
    { args: ['train', 'text', '--out', 'run', '--size', '130m', '--layers', '3'], message: "option '--size <name>' cannot be used with option '--layers <n>'" },
    { args: ['train', 'text', '--out', 'run', '--model', 'gru', '--size', '130m'], message: "'130m' is invalid. No size of gru has a name; give --d-model and --layers." },
    { args: ['train', 'text', '--out', 'run', '--model', 'gru', '--d-state', '16'], message: "option '--d-state' is none of the family gru" },
    { args: ['train', 'text', '--out', 'run', '--model', 'gru', '--d-conv', '4'], message: "option '--d-conv' is none of the family gru" },
    { args: ['train', 'text', '--out', 'run', '--model', 'gru', '--layers', '2', '--expand', '2'], message: "option '--expand' is none of the family gru" },
    { args: ['train', 'text', '--out', 'run', '--model', 'transformer', '--set', 'head=4'], message: "options is 'head'; expected one of vocabularySize, size, dModel, layers, heads" },
    { args: ['train', 'text', '--out', 'run', '--model', 'transformer', '--set', 'heads=8', '--set', 'kv-heads=3'], message: 'kvHeads is 3; expected a divisor of heads = 8' },
    { args: ['train', 'text', '--out', 'run', '--set', 'heads'], message: 'expected name=value, as heads=8' },
    { args: ['eval', model, 'text', '--chunk', '0'], message: "argument '0' is invalid. expected an integer ≥ 1" },
    { args: ['eval', model, 'text', '--limit', '1'], message: 'expected an integer ≥ 2' },
    { args: ['generate', model, '--top-q', '1'], message: "unknown option '--top-q'" },
    { args: ['generate', model, '--max-tokens', '1.5'], message: 'expected an integer ≥ 0' },
    { args: ['generate', model, '--matmul', 'bf16'], message: "unknown option '--matmul'" },
    { args: ['generate', model, '--precision', 'f64'], message: 'Allowed choices are f32, bf16, f16' },
    { args: ['generate', model, '--temperature', 'hot'], message: 'expected a number from 0 to 100' },
    { args: ['generate', model, '--top-p', '0'], message: 'expected a number above 0, at most 1' },
    { args: ['generate', model, '--seed', '4294967296'], message: 'expected an integer from 0 to 4294967295' },
    { args: ['generate', model, '--kernels', 'cuda'], message: 'Allowed choices are auto, native, wasm' },
    { args: ['generate', model, '--threads'], message: 'argument missing' },
    { args: ['train', 'text'], message: "one of '--out <folder>' and '--resume <folder>' is needed" },
    { args: ['train', '--out', 'runs/x'], message: "missing argument 'text'" },
    { args: ['train', 'text', '--resume', 'runs/x'], message: "'--resume' takes the text and all settings from the run's folder" },
    { args: ['train', 'text', '--out', 'runs/x', '--on-divergence', 'pray'], message: 'Allowed choices are stop, skip' },
    { args: ['train', 'text', '--out', 'runs/x', '--dashboard', '65536'], message: 'expected an integer from 1 to 65535' },
    { args: ['train', 'text', '--out', 'runs/x', '--max-minutes', '0'], message: 'expected a number from 0.001 to 1000000' },
    { args: ['train', 'text', '--out', 'runs/x', '--seed', '-1'], message: 'expected an integer from 0 to 4294967295' },
    { args: ['task', 'copying', '--out', 'runs/x'], message: 'Allowed choices are selective-copying, induction-heads' },
    { args: ['task', '--out', 'runs/x'], message: "missing argument 'task'" },
    { args: ['task', 'induction-heads'], message: "one of '--out <folder>' and '--resume <folder>' is needed" },
    { args: ['task', 'induction-heads', '--resume', 'runs/x'], message: "'--resume' takes the task and all settings from the run's folder" },
    { args: ['task', 'induction-heads', '--out', 'runs/x', '--ssm', 's4'], message: 'Allowed choices are s6, lti' },
  ])('$args', async ({ args, message }) => {
    const { code, stdout, stderr } = await runHere(...args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain(message);
    expect(stderr).toMatch(/elapid .*--help/);
    expect(stderr).not.toMatch(/^ +at /m);
  });
});

test('no command at all exits with 2 and shows the help on stderr', async () => {
  const { code, stdout, stderr } = await runCli();
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).toContain('Usage: elapid [options] [command]');
});

describe('a failure exits with 1 and one line', () => {
  const path = useFolder();
  const textOf = (name: string, text: string | Uint8Array) => {
    writeFileSync(path(name), text);
    return path(name);
  };

  test.each<{ name: string; args: () => string[]; message: RegExp }>([
    { name: 'a published model’s name, misspelt', args: () => ['inspect', 'mamba-13b'], message: /mamba-13b: no such file or folder\. Hint: did you mean 'mamba-130m'\?/ },
    { name: 'a published model where weights are needed', args: () => ['generate', 'mamba-2.8b', 'x'], message: /mamba-2\.8b: no such file or folder\. Hint: the package has no weights of this model; download a checkpoint of it, then give the folder/ },
    { name: 'no model', args: () => ['inspect', path('nowhere')], message: /nowhere: no such file or folder/ },
    { name: 'no weights', args: () => ['generate', path(), 'x'], message: /the folder has no weights/ },
    { name: 'no text', args: () => ['eval', model, path('no.txt')], message: /no tokenizer\.json, and the model has 97 ids/ },
    { name: 'another kind of model', args: () => ['inspect', textOf('config.json', '{"model_type": "mamba3"}')], message: /config\.json, key 'model_type': is "mamba3"/ },
    { name: 'no run', args: () => ['train', '--resume', path('nowhere')], message: /train: there is no folder \S+nowhere\. Hint: --resume takes the folder that --out named/ },
    { name: 'no run to show', args: () => ['dashboard', path('nowhere')], message: /nowhere: is missing; expected the folder of a training run/ },
    { name: 'no run of a task', args: () => ['task', '--resume', path('nowhere')], message: /task: there is no folder \S+nowhere\. Hint: --resume/ },
    { name: 'more tokens than places', args: () => ['task', 'selective-copying', '--length', '3', '--out', path('e')], message: /tokens is \d+; expected an integer from 1 to 3/ },
    { name: 'a text that is too short', args: () => ['train', textOf('short', 'abc'), '--out', path('a')], message: /3 tokens; expected at least 2049 for a batch: batch size × length \+ 1 = 8 × 256 \+ 1/ },
    { name: 'an empty text', args: () => ['train', textOf('empty', ''), '--out', path('b')], message: /empty; expected a file of UTF-8 text/ },
    { name: 'no UTF-8', args: () => ['train', textOf('latin', Uint8Array.of(0xe9, 0x20)), '--out', path('c')], message: /not UTF-8.*expected a file of UTF-8 text/ },
    { name: 'no file', args: () => ['train', path('no.txt'), '--out', path('d')], message: /no\.txt is unreadable \(ENOENT/ },
  ])('$name', async ({ args, message }) => {
    const { code, stdout, stderr } = await runHere(...args());
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/^elapid: [^\n]+\n$/);
    expect(stderr).toMatch(message);
  });

  test.each([
    { name: 'no model', args: () => ['inspect', path('nowhere')], message: /nowhere: no such file or folder/ },
    { name: 'no run', args: () => ['train', '--resume', path('nowhere')], message: /train: there is no folder/ },
    { name: 'more tokens than places', args: () => ['task', 'selective-copying', '--length', '3', '--out', path('f')], message: /tokens is \d+/ },
  ])('$name, as a process; --debug shows the stack', async ({ args, message }) => {
    const { code, stdout, stderr } = await runCli(...args());
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/^elapid: [^\n]+\n$/);

    const debugged = await runCli(...args(), '--debug');
    expect(debugged.code).toBe(1);
    expect(debugged.stderr).toMatch(message);
    expect(debugged.stderr).toMatch(/^\w+Error: /m);
    expect(debugged.stderr).toMatch(/\n +at .*\.js:\d+:\d+/);
  });

  test('--debug may stand before the command', async () => {
    expect((await runCli('--debug', 'inspect', path('nowhere'))).stderr).toMatch(/\n +at /);
  });
});
