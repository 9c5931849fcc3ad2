import { writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { runCli, runCliWithInput, runShell, startCli, tinyRun, trainingText } from '../support/cli.js';
import { runHere } from '../support/run-here.js';
import { useFolder } from '../support/folders.js';

describe('elapid generate', () => {
  const path = useFolder();
  const run = () => path('run');

  beforeAll(async () => {
    writeFileSync(path('text.txt'), trainingText);
    const { code, stderr } = await runHere('train', path('text.txt'), '--out', run(), ...tinyRun, '--steps', '150');
    expect(code, stderr).toBe(0);
  });

  const generate = async (...args: readonly string[]): Promise<string> => {
    const { code, stdout, stderr } = await runHere('generate', run(), ...args);
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

  test('without a prompt the model begins a text: on bytes after a line end, which is not printed', async () => {
    const begun = (await generate('\n', '-t', '0', '-n', '20')).slice(1);
    expect(begun.length).toBeGreaterThan(10);
    expect(await generate('', '-t', '0', '-n', '20')).toBe(begun);
    // Standard input is /dev/null here, as under cron.
    expect(await runCli('generate', run(), '-t', '0', '-n', '20')).toMatchObject({ code: 0, stdout: begun, stderr: '' });
    for (const input of ['', new Uint8Array(0)]) {
      expect(await runCliWithInput(input, 'generate', run(), '-', '-t', '0', '-n', '20')).toMatchObject({ code: 0, stdout: begun, stderr: '' });
    }
  });

  test.each<[string, string | undefined, readonly string[]]>([
    ['the piped text is the prompt where none is given', 'It is', []],
    ['it is kept to the letter, in UTF-8', '\uFEFFÀ la carte\n', []],
    ['a prompt that is given wins', 'Mr Darcy', ['It is']],
  ])('%s', async (_, input, args) => {
    const { code, stdout, stderr } = await runCliWithInput(input, 'generate', run(), ...args, '-t', '0', '-n', '20');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toBe(await generate(args[0] ?? input ?? '', '-t', '0', '-n', '20'));
  });

  test('a pipe that stays open and silent is not waited for', async () => {
    const { code, stdout, stderr } = await runCliWithInput(undefined, 'generate', run(), '-t', '0', '-n', '20');
    expect(code).toBe(0);
    expect(stdout).toBe(await generate('', '-t', '0', '-n', '20'));
    expect(stderr).toBe("elapid: nothing came on standard input within 2 s: going on without a prompt. '-' as the prompt waits for it\n");
  });

  test('what fails prints no prompt', async () => {
    const latin = await runCliWithInput(Uint8Array.of(0x4f, 0xf9, 0x20), 'generate', run(), '-');
    expect(latin).toMatchObject({ code: 1, stdout: '' });
    expect(latin.stderr).toMatch(/^elapid: standard input is not UTF-8 \(byte 1 is 0xf9\); expected a prompt as UTF-8 text\. Hint: iconv /);
    expect(await runHere('generate', path('nowhere'), 'Once')).toMatchObject({ code: 1, stdout: '' });
  });
});
