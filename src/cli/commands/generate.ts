import { Option, type Command } from 'commander';
import { generateText } from '../../generate/index.js';
import { loadModel, type WeightDType } from '../../models/index.js';
import { cacheDTypes } from '../../models/state.js';
import type { FloatDType } from '../../tensor/index.js';
import { loadTokenizer } from '../../tokenizer/index.js';
import { modelArgument, modelFolder } from '../model-argument.js';
import { exitCodes, integer, interruption, number, positiveShare, refuseOption, repeated, seedNumber, someText, dtypeOption, printWarning, verifyOption, withBackend, withComputeOptions, type ComputeOptions } from '../options.js';
import { readStandardInput } from '../standard-input.js';

interface Options extends ComputeOptions {
  readonly dtype?: WeightDType;
  readonly cacheDtype?: FloatDType;
  readonly verify?: true;
  readonly maxTokens: number;
  readonly temperature: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly minP?: number;
  readonly repetitionPenalty?: number;
  readonly seed?: number;
  readonly stop?: readonly string[];
}

/** How long a pipe on standard input may be silent where no prompt is given: it may be one that nobody will ever write to. */
const patienceMs = 2000;

/** `elapid generate MODEL PROMPT` */
export function addGenerate(program: Command): void {
  withComputeOptions(
    program
      .command('generate')
      .summary('continue a text')
      .description(
        'Continues a text with a model and streams it to standard output, the prompt first. It ends at the token that ends a text, ' +
          'where the model has one, else after --max-tokens.\n\n' +
          'Without a prompt, text that is piped or redirected to the command is the prompt; if there is none either, or the prompt is ' +
          'empty, the model begins a text of its own: after the token that begins or ends a text, on bytes after a line end.',
      )
      .argument('<model>', modelArgument)
      .argument('[prompt]', "text to continue; '-' waits for it on standard input, however long that takes")
      .addOption(dtypeOption())
      .addOption(new Option('--cache-dtype <format>', 'of keys and values, in models with attention: f16 takes half the memory of f32 (default: f16 on a GPU that computes in it, else f32)').choices(cacheDTypes))
      .addOption(verifyOption())
      .option('-n, --max-tokens <n>', 'the most tokens to generate; a token is a byte or a piece of a word, by the tokenizer', integer(0), 256)
      .option('-t, --temperature <t>', 'randomness, from 0 to 100: 0 takes the likeliest token, 1 samples as the model says', number(0, 100), 0.8)
      .option('--top-k <k>', 'only the k likeliest tokens (default: all)', integer(1))
      .option('--top-p <p>', 'only the likeliest tokens that together have probability p, above 0, at most 1 (default: 1, all)', positiveShare)
      .option('--min-p <p>', 'only tokens at least p times as likely as the likeliest, p from 0 to 1 (default: 0, all)', number(0, 1))
      .option('--repetition-penalty <r>', 'divides the scores of tokens seen before, from 0.01 to 100 (default: 1, none)', number(0.01, 100))
      .option('--seed <n>', 'the same seed gives the same text (default: another each time)', seedNumber)
      .option('--stop <text>', 'end before this text; may be repeated', someText(repeated)),
  )
    .addHelpText(
      'after',
      '\nExamples:\n  elapid generate stories "Once upon a time" -n 1000\n  elapid generate runs/austen "It is a truth" --seed 1\n  echo "Once upon a time" | elapid generate stories -n 500 --top-p 0.9',
    )
    .action(run);
}

async function run(model: string, prompt: string | undefined, options: Options, command: Command): Promise<void> {
  if (options.temperature === 0) {
    for (const name of ['topK', 'topP', 'minP', 'seed']) refuseOption(command, name, "has no effect with '--temperature 0', which takes the likeliest token");
  }
  const text = await readPrompt(prompt);
  const { signal, stop } = interruption();
  let printed = false;
  const print = (piece: string): void => {
    if (!printed) process.stdout.write(text);
    printed = true;
    process.stdout.write(piece);
  };
  try {
    await withBackend(options, async (backend) => {
      const folder = await modelFolder(model);
      const loaded = await loadModel(folder, backend, { dtype: options.dtype, verify: options.verify, onWarning: printWarning });
      try {
        if (options.cacheDtype !== undefined && !loaded.remembersPositions) refuseOption(command, 'cacheDtype', 'has no effect on a model without attention: it keeps no keys and values');
        const tokenizer = await loadTokenizer(folder, loaded.config.vocabularySize);
        for await (const piece of generateText(loaded, tokenizer, text, { ...options, cacheDType: options.cacheDtype, signal })) print(piece);
        print('\n');
      } catch (error) {
        // What follows is a message, on a line of its own.
        if (printed) process.stdout.write('\n');
        if (!signal.aborted) throw error;
        process.exitCode = exitCodes.interrupted;
      } finally {
        loaded.dispose();
      }
    });
  } finally {
    stop();
  }
}

/** The prompt that was given; else what is piped in; else nothing. */
async function readPrompt(prompt: string | undefined): Promise<string> {
  if (prompt === '-') return (await readStandardInput()) ?? '';
  if (prompt !== undefined) return prompt;
  if (process.stdin.isTTY) return '';
  const piped = await readStandardInput({ patienceMs });
  if (piped === undefined) {
    process.stderr.write(`elapid: nothing came on standard input within ${patienceMs / 1000} s: going on without a prompt. '-' as the prompt waits for it\n`);
  }
  return piped ?? '';
}
