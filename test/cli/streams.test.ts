import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, test } from 'vitest';
import { cliPath, runShell, stepsOf, tinyRun, trainingText } from '../support/cli.js';
import { useFolder } from '../support/folders.js';

describe('streams that nobody reads', () => {
  const path = useFolder();

  beforeAll(() => {
    writeFileSync(path('text.txt'), trainingText);
  });

  test.each([
    { what: 'stderr into head', line: 'elapid train "$1" --out "$2" "${@:3}" 2>&1 | head -1' },
    { what: 'stderr closed', line: 'elapid train "$1" --out "$2" "${@:3}" 2>&-' },
    { what: 'both into a program that ends at once', line: 'elapid train "$1" --out "$2" "${@:3}" 2>&1 | true' },
  ])('are no reason to end a run: $what', async ({ what, line }) => {
    const { code } = await runShell(line, path('text.txt'), path(what), ...tinyRun, '--steps', '5', '--evaluate-every', '1');
    expect(code).toBe(0);
    expect(stepsOf(path(what, 'metrics.jsonl')).map(([step]) => step)).toEqual([1, 2, 3, 4, 5]);
    expect(existsSync(path(what, 'training.safetensors'))).toBe(true);
  });

  test('end a command whose result is what it prints', async () => {
    const model = fileURLToPath(new URL('../fixtures/goldens/hf-mamba', import.meta.url));
    const { code, stdout, stderr } = await runShell('elapid inspect "$1" | head -1', model);
    expect({ code, stdout: stdout.trim().replace(/ +/, ' '), stderr }).toEqual({ code: 0, stdout: 'family mamba', stderr: '' });
  });
});

describe('an error', () => {
  const path = useFolder();

  test.each([
    { what: 'that nobody caught', code: "setTimeout(() => { throw new RangeError('late'); }, 0);" },
    { what: 'of a promise', code: "void Promise.reject(new RangeError('late'));" },
    { what: 'that is none', code: "setTimeout(() => { throw 'late'; }, 0);" },
  ])('$what is one line, and with --debug its stack', async ({ code }) => {
    const preload = path('preload.mjs');
    // Thrown while the command runs.
    writeFileSync(preload, `process.nextTick(() => { const wait = setInterval(() => { if (process.listenerCount('uncaughtException') > 0) { clearInterval(wait); ${code} } }, 1); });`);
    const run = async (...more: readonly string[]) => {
      const child = spawn(process.execPath, ['--import', preload, cliPath, 'dashboard', path(), ...more], { stdio: ['ignore', 'ignore', 'pipe'] });
      let stderr = '';
      child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
      const [status] = (await once(child, 'close')) as [number];
      return { status, stderr };
    };
    expect(await run()).toEqual({ status: 1, stderr: 'elapid: late\n' });
    const { stderr } = await run('--debug');
    if (!code.includes("throw 'late'")) expect(stderr).toMatch(/RangeError: late\n {4}at /);
  });

  test('in what the program imports is one line', async () => {
    cpSync(fileURLToPath(new URL('../../dist', import.meta.url)), path('dist'), { recursive: true });
    writeFileSync(path('package.json'), JSON.stringify({ type: 'module', imports: { '#platform': './dist/platform/node.js' } }));
    rmSync(path('dist', 'cli', 'program.js'));
    const child = spawn(process.execPath, [path('dist', 'cli', 'main.js'), '--version'], { stdio: ['ignore', 'ignore', 'pipe'] });
    let stderr = '';
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
    const [status] = (await once(child, 'close')) as [number];
    expect(status).toBe(1);
    expect(stderr).toMatch(/^elapid: Cannot find (module|package) [^\n]+\n$/);
  });
});
