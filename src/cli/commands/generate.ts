import { Option, type Command } from 'commander';
import { generateText, type DraftOptions, type SpeculationRound } from '../../generate/index.js';
import { loadModel, type LanguageModel, type WeightDType } from '../../models/index.js';
import { cacheDTypes } from '../../models/state.js';
import { loadTokenizer } from '../../tokenizer/index.js';
import type { Backend, FloatDType } from '../../tensor/index.js';
import { compact, counted } from '../format.js';
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
  readonly draft?: string;
  readonly draftTokens: number;
  readonly lossyRank?: number;
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
      .option('--stop <text>', 'end before this text; may be repeated', someText(repeated))
      .option('--draft <model>', 'a smaller model of subwords, which guesses ahead of a model of bytes: the text stays the same and comes faster, as far as the guesses are right')
      .option('--draft-tokens <n>', 'subwords that it guesses at a time', integer(1), 3)
      .option(
        '--lossy-rank <r>',
        "takes a guessed byte where it is among the r likeliest, with '--temperature 0': faster still, and not the model's own text any more (default: 1, which loses nothing)",
        integer(1, 256),
      ),
  )
    .addHelpText(
      'after',
      '\nExamples:\n  elapid generate stories "Once upon a time" -n 1000\n  elapid generate runs/austen "It is a truth" --seed 1\n  echo "Once upon a time" | elapid generate stories -n 500 --top-p 0.9\n' +
        '  elapid generate runs/bytes "ROMEO:" --draft runs/subwords',
    )
    .action(run);
}

async function run(model: string, prompt: string | undefined, options: Options, command: Command): Promise<void> {
  if (options.temperature === 0) {
    for (const name of ['topK', 'topP', 'minP', 'seed']) refuseOption(command, name, "has no effect with '--temperature 0', which takes the likeliest token");
  }
  if (options.draft === undefined) for (const name of ['draftTokens', 'lossyRank']) refuseOption(command, name, "is for '--draft'");
  if (options.temperature !== 0) refuseOption(command, 'lossyRank', "is for '--temperature 0'");
  if (options.lossyRank !== undefined) refuseOption(command, 'repetitionPenalty', "cannot be used with '--lossy-rank'");
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
        const summary = new DraftSummary();
        await withDraft(backend, options, (round) => summary.add(round), async (draft) => {
          summary.begin();
          for await (const piece of generateText(loaded, tokenizer, text, { ...options, cacheDType: options.cacheDtype, draft, signal })) print(piece);
        });
        print('\n');
        if (options.draft !== undefined) process.stderr.write(`${summary.text()}\n`);
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

/** Runs `body` with the model that drafts, where one was asked for. */
async function withDraft(
  backend: Backend,
  { draft: name, draftTokens, lossyRank, verify }: Options,
  onRound: (round: SpeculationRound) => void,
  body: (draft: DraftOptions | undefined) => Promise<void>,
): Promise<void> {
  if (name === undefined) {
    await body(undefined);
    return;
  }
  const folder = await modelFolder(name);
  const model: LanguageModel = await loadModel(folder, backend, { verify, onWarning: printWarning });
  try {
    const tokenizer = await loadTokenizer(folder, model.config.vocabularySize);
    await body({ model, tokenizer, subwords: draftTokens, lossyRank, onRound });
  } finally {
    model.dispose();
  }
}

/** What came of the drafts. */
class DraftSummary {
  #rounds = 0;
  #drafted = 0;
  #accepted = 0;
  #written = 0;
  #began = 0;
  #ended = 0;

  begin(): void {
    this.#began = this.#ended = performance.now();
  }

  add({ bytes, accepted, correction }: SpeculationRound): void {
    this.#rounds++;
    this.#drafted += bytes.length;
    this.#accepted += accepted;
    this.#written += accepted + correction.length;
    this.#ended = performance.now();
  }

  text(): string {
    const each = (count: number) => (count / Math.max(1, this.#rounds)).toFixed(1);
    const pace = this.#written / Math.max(1e-3, (this.#ended - this.#began) / 1000);
    return `draft: ${counted(this.#rounds, 'round')}, ${each(this.#accepted)} of ${each(this.#drafted)} drafted bytes taken a round; ${counted(this.#written, 'byte')} at ${compact(pace)} bytes/s, the prompt included`;
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
