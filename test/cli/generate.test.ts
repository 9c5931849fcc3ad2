import { writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { runCli, runShell, startCli, tinyRun, trainingText } from '../support/cli.js';
import { useFolder } from '../support/folders.js';

describe('elapid generate', () => {
  const path = useFolder();
  const run = () => path('run');

  beforeAll(async () => {
    writeFileSync(path('text.txt'), trainingText);
    const { code, stderr } = await runCli('train', path('text.txt'), '--out', run(), ...tinyRun, '--steps', '150');
    expect(code, stderr).toBe(0);
  });

  const generate = async (...args: readonly string[]): Promise<string> => {
    const { code, stdout, stderr } = await runCli('generate', run(), ...args);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    return stdout;
  };

  test('continues a prompt, and repeats with --seed', async () => {
    const first = await generate('It is', '--seed', '7', '-n', '40');
    expect(first).toMatch(/^It is[^]+\n$/);
    expect(await generate('It is', '--seed', '7', '-n', '40')).toBe(first);
    expect(await generate('It is', '--seed', '8', '-n', '40')).not.toBe(first);
    expect(await generate('It is', '-n', '0')).toBe('It is\n');
  });

  test('two runs without --seed differ', async () => {
    expect(await generate('It is', '-n', '60')).not.toBe(await generate('It is', '-n', '60'));
  });

  test('sampling options are heard', async () => {
    const greedy = await generate('Mr', '-t', '0', '-n', '30');
    for (const options of [['--top-k', '1'], ['--top-p', '0.0001'], ['--min-p', '1'], ['-t', '0.0001']]) {
      expect(await generate('Mr', ...options, '-n', '30')).toBe(greedy);
    }
    const penalised = await generate('Mr', '-t', '0', '--repetition-penalty', '100', '-n', '30');
    expect(penalised).not.toBe(greedy);
    const stop = greedy.slice(8, 11);
    expect(await generate('Mr', '-t', '0', '-n', '30', '--stop', 'nowhere', '--stop', stop)).toBe(
      `Mr${greedy.slice(2, 2 + greedy.slice(2).indexOf(stop))}\n`,
    );
  });

  test('the wasm kernels give the text of the native ones', async () => {
    const native = await generate('She', '-t', '0', '-n', '50');
    expect(await generate('She', '-t', '0', '-n', '50', '--kernels', 'wasm')).toBe(native);
    expect(await generate('She', '-t', '0', '-n', '50', '--kernels', 'wasm', '--threads', '1')).toBe(native);
  });

  test("'-' reads the prompt from standard input, whole characters whatever the pieces", async () => {
    const line = 'printf "Où" | elapid generate "$1" - -t 0 -n 20';
    const piped = await runShell(line, run());
    expect(piped).toMatchObject({ code: 0, stderr: '' });
    expect(piped.stdout).toBe(await generate('Où', '-t', '0', '-n', '20'));
    const pieces = await runShell('{ printf "O\\303"; sleep 0.2; printf "\\271"; } | elapid generate "$1" - -t 0 -n 20', run());
    expect(pieces.stdout).toBe(piped.stdout);
  });

  test('a reader that closes the pipe is no error', async () => {
    // With pipefail the line's status is that of the command before head, should it fail.
    const { code, stdout, stderr } = await runShell('elapid generate "$1" "It is a truth" -n 20000 | head -c 5', run());
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: 'It is', stderr: '' });
  });

  test('streams: the text comes before the end', async () => {
    const running = startCli(['generate', run(), 'It', '-n', '1000000000', '--threads', '1']);
    let text = '';
    await new Promise<void>((resolve) => {
      running.child.stdout.on('data', (chunk: Buffer) => {
        text += chunk.toString();
        if (text.length > 20) resolve();
      });
    });
    expect(text.startsWith('It')).toBe(true);
    running.child.kill('SIGINT');
    const { code, stdout, stderr } = await running.result;
    expect({ code, stderr }).toEqual({ code: 130, stderr: '' });
    expect(stdout.endsWith('\n')).toBe(true);
  });

  test('an empty prompt is refused', async () => {
    const { code, stderr } = await runCli('generate', run(), '');
    expect(code).toBe(1);
    expect(stderr).toMatch(/^elapid: .*empty; expected at least one id/);
  });
});
