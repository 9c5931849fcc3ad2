import { existsSync, writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { Command, CommanderError } from 'commander';
import { addEval } from '../../src/cli/commands/eval.js';
import { addGenerate } from '../../src/cli/commands/generate.js';
import { addQuantize } from '../../src/cli/commands/quantize.js';
import { addTask } from '../../src/cli/commands/task.js';
import { addTokenize } from '../../src/cli/commands/tokenize.js';
import { addTrain } from '../../src/cli/commands/train.js';
import { runHere } from '../support/run-here.js';
import { useFolder } from '../support/folders.js';
import { goldenPath } from '../support/goldens.js';

const model = goldenPath('hf-mamba');

/** What commander says of a command line, without a process of its own for each. */
async function usageError(args: readonly string[]): Promise<string> {
  const program = new Command('elapid');
  for (const add of [addEval, addGenerate, addQuantize, addTask, addTokenize, addTrain]) add(program);
  for (const command of [program, ...program.commands]) {
    command.configureOutput({ writeErr: () => undefined }).exitOverride((error) => {
      throw error;
    });
  }
  try {
    await program.parseAsync(args, { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError) return error.message;
    throw error;
  }
  throw new Error(`elapid ${args.join(' ')} is taken`);
}

describe('an option that would have no effect is wrong usage', () => {
  const path = useFolder();
  const text = () => path('a.txt');
  const lines = () => path('a.jsonl');

  beforeAll(async () => {
    writeFileSync(text(), 'a\n');
    writeFileSync(lines(), '{"text":"a"}\n');
    expect((await runHere('tokenize', lines(), '--out', path('shards'))).code).toBe(0);
  });

  test.each<{ args: () => string[]; message: string }>([
    { args: () => ['generate', model, 'a', '-t', '0', '--top-k', '3'], message: "option '--top-k' has no effect with '--temperature 0'" },
    { args: () => ['generate', model, 'a', '-t', '0', '--top-p', '0.5'], message: "option '--top-p' has no effect" },
    { args: () => ['generate', model, 'a', '-t', '0', '--min-p', '0.5'], message: "option '--min-p' has no effect" },
    { args: () => ['generate', model, 'a', '-t', '0', '--seed', '1'], message: "option '--seed' has no effect" },
    { args: () => ['generate', model, 'a', '--draft-tokens', '2'], message: "option '--draft-tokens' is for '--draft'" },
    { args: () => ['generate', model, 'a', '-t', '0', '--lossy-rank', '2'], message: "option '--lossy-rank' is for '--draft'" },
    { args: () => ['generate', model, 'a', '--draft', model, '--lossy-rank', '2'], message: "option '--lossy-rank' is for '--temperature 0'" },
    { args: () => ['generate', model, 'a', '--draft', model, '-t', '0', '--lossy-rank', '2', '--repetition-penalty', '2'], message: "option '--repetition-penalty' cannot be used with '--lossy-rank'" },
    { args: () => ['generate', model, 'a', '--draft', model, '--draft-tokens', '0'], message: "option '--draft-tokens <n>' argument '0' is invalid" },
    { args: () => ['generate', model, 'a', '--stop', ''], message: "option '--stop <text>' argument '' is invalid. expected some text" },
    { args: () => ['generate', model, 'a', '--backend', 'webgpu', '--threads', '2'], message: "option '--threads' is for '--backend cpu'" },
    { args: () => ['eval', model, text(), '--backend', 'webgpu', '--kernels', 'wasm'], message: "option '--kernels' is for '--backend cpu'" },
    { args: () => ['generate', model, 'a', '--precision', 'f16'], message: "option '--precision f16' is for '--backend webgpu'" },
    { args: () => ['generate', model, 'a', '--backend', 'webgpu', '--precision', 'bf16'], message: "option '--precision bf16' is for '--backend cpu'" },
    { args: () => ['quantize', model, '--out', path('q'), '--precision', 'bf16'], message: "unknown option '--precision'" },
    { args: () => ['eval', model, text(), '--text-field', 'body'], message: "option '--text-field' is for .jsonl files" },
    { args: () => ['eval', model, lines(), '--document-separator', '---'], message: "option '--document-separator' is for plain text" },
    { args: () => ['eval', model, lines(), '--limit', '5'], message: "option '--limit' is for a text that is one sequence" },
    { args: () => ['tokenize', text(), '--out', path('x'), '--text-field', 'body'], message: "option '--text-field' is for .jsonl files" },
    { args: () => ['tokenize', lines(), '--out', path('x'), '--document-separator', '---'], message: "option '--document-separator' is for plain text" },
    { args: () => ['train', lines(), '--out', path('x'), '--document-separator', '---'], message: "option '--document-separator' is for plain text" },
    { args: () => ['train', path('shards'), '--out', path('x'), '--text-field', 'body'], message: "option '--text-field' is for texts" },
    { args: () => ['train', path('shards'), '--out', path('x'), '--document-separator', '---'], message: "option '--document-separator' is for texts" },
    { args: () => ['train', path('shards'), '--out', path('x'), '--tokenizer', model], message: "option '--tokenizer' is for texts" },
    { args: () => ['train', text(), '--out', path('x'), '--validation', text(), '--validation-share', '0.5'], message: "option '--validation-share' has no effect with '--validation'" },
    { args: () => ['task', 'induction-heads', '--out', path('x'), '--tokens', '3'], message: "option '--tokens' is for selective-copying" },
    { args: () => ['task', 'selective-copying', '--out', path('x'), '--test-length', '64'], message: "option '--test-length' is for induction-heads" },
  ])('$message', async ({ args, message }) => {
    expect(await usageError(args())).toContain(`error: ${message}`);
  });

  test('it exits with 2 before anything is done', async () => {
    const { code, stdout, stderr } = await runHere('train', text(), '--out', path('x'), '--validation', text(), '--validation-share', '0.5');
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toMatch(/^error: option '--validation-share' has no effect .*\n+\(elapid <command> --help/);
    expect(existsSync(path('x'))).toBe(false);
  });

  test.each([
    [['genrate', model], "unknown command 'genrate'\n(Did you mean generate?)"],
    [['generate', model, '--temprature', '1'], "unknown option '--temprature'\n(Did you mean --temperature?)"],
    [['eval', model, 'x', '--jsno'], "unknown option '--jsno'\n(Did you mean --json?)"],
  ])('what was meant is guessed: %j', async (args, message) => {
    expect(await usageError(args)).toContain(message);
  });

  test('with mixed files an option is for some of them', async () => {
    const { code, stderr } = await runHere('tokenize', text(), lines(), '--out', path('mixed'), '--document-separator', '---', '--text-field', 'text');
    expect(code, stderr).toBe(0);
  });
});
