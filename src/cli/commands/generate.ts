import type { Command } from 'commander';
import { generateText } from '../../generate/index.js';
import { loadMamba, type WeightDType } from '../../models/index.js';
import { loadTokenizer } from '../../tokenizer/index.js';
import { modelArgument, modelFolder } from '../model-argument.js';
import { exitCodes, integer, interruption, number, positiveShare, repeated, seedNumber, dtypeOption, printWarning, verifyOption, withBackend, withComputeOptions, type ComputeOptions } from '../options.js';

interface Options extends ComputeOptions {
  readonly dtype?: WeightDType;
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

/** `elapid generate MODEL PROMPT` */
export function addGenerate(program: Command): void {
  withComputeOptions(
    program
      .command('generate')
      .summary('continue a text')
      .description('Continues a text with a model and streams it to standard output.')
      .argument('<model>', modelArgument)
      .argument('[prompt]', "text to continue; '-' reads it from standard input", '\n')
      .addOption(dtypeOption())
      .addOption(verifyOption())
      .option('-n, --max-tokens <n>', 'the most tokens to generate', integer(0), 256)
      .option('-t, --temperature <t>', 'randomness: 0 takes the likeliest token, 1 samples as the model says', number(0, 100), 0.8)
      .option('--top-k <k>', 'only the k likeliest tokens', integer(1))
      .option('--top-p <p>', 'only the likeliest tokens that together have probability p', positiveShare)
      .option('--min-p <p>', 'only tokens at least p times as likely as the likeliest', number(0, 1))
      .option('--repetition-penalty <r>', 'divides the logits of tokens seen before; 1 is none', number(0.01, 100))
      .option('--seed <n>', 'the same seed gives the same text (default: another each time)', seedNumber)
      .option('--stop <text>', 'end before this text; may be repeated', repeated),
  )
    .addHelpText(
      'after',
      '\nExamples:\n  elapid generate stories "Once upon a time" -n 1000\n  elapid generate runs/austen "It is a truth" --seed 1\n  echo "Once upon a time" | elapid generate runs/austen - -n 500 --top-p 0.9',
    )
    .action(run);
}

async function run(model: string, prompt: string, options: Options): Promise<void> {
  const text = prompt === '-' ? await readStandardInput() : prompt;
  const { signal, stop } = interruption();
  try {
    await withBackend(options, async (backend) => {
      const folder = await modelFolder(model);
      const loaded = await loadMamba(folder, backend, { dtype: options.dtype, verify: options.verify, onWarning: printWarning });
      try {
        const tokenizer = await loadTokenizer(folder, loaded.config.vocabularySize);
        process.stdout.write(text);
        for await (const piece of generateText(loaded, tokenizer, text, { ...options, signal })) process.stdout.write(piece);
        process.stdout.write('\n');
      } catch (error) {
        if (!signal.aborted) throw error;
        process.stdout.write('\n');
        process.exitCode = exitCodes.interrupted;
      } finally {
        loaded.dispose();
      }
    });
  } finally {
    stop();
  }
}

async function readStandardInput(): Promise<string> {
  const decoder = new TextDecoder();
  let text = '';
  for await (const chunk of process.stdin) text += decoder.decode(chunk as Uint8Array, { stream: true });
  return text + decoder.decode();
}
