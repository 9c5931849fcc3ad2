import { InvalidArgumentError, type Command } from 'commander';
import { loadTextFile, packedPass } from '../../data/index.js';
import { isJsonLines } from '../../data/text-documents.js';
import { evalTaskNames, type EvalTaskName } from '../../eval/index.js';
import { loadModel, type LanguageModel } from '../../models/index.js';
import { loadTokenizer, type Tokenizer } from '../../tokenizer/index.js';
import { textSize, type TextSize } from '../../tokenizer/token-bytes.js';
import { bitsPerByte, evaluate, evaluateSequence, perplexity, wordPerplexity, type Evaluation, type EvaluationConduct } from '../../train/index.js';
import { compact, duration, grouped } from '../format.js';
import { measuring } from '../measuring.js';
import { modelArgument, modelFolder } from '../model-argument.js';
import { integer, dtypeOption, refuseOption, printWarning, verifyOption, withBackend, withComputeOptions } from '../options.js';
import { expandTexts } from '../text-paths.js';
import { checkDocumentOptions, documentOptions, openTexts, type DocumentOptions } from '../training-data.js';
import { evalOnTasks, type EvalTasksOptions } from '../eval-on-tasks.js';

interface Options extends EvalTasksOptions, DocumentOptions {
  readonly task?: readonly EvalTaskName[];
  readonly data?: string;
  readonly chunk: number;
}

/** Parses names of tasks with commas between. */
function taskNames(text: string, earlier: readonly EvalTaskName[] = []): readonly EvalTaskName[] {
  const names = text.split(',').map((name) => {
    const found = evalTaskNames.find((one) => one === name.trim());
    if (found !== undefined) return found;
    throw new InvalidArgumentError(`there is no task '${name.trim()}'; expected some of ${evalTaskNames.join(', ')}`);
  });
  return [...new Set([...earlier, ...names])];
}

/** Documents that are read side by side. */
const rows = 8;

/** `elapid eval MODEL TEXT` */
export function addEval(program: Command): void {
  withComputeOptions(
    documentOptions(program.command('eval'))
      .summary('measure how well a model predicts a text, or answers the items of tasks')
      .description(
        'Reports how well a model predicts a text, or with --task its figures on benchmarks. Of a text’s figures, lower is better:\n' +
          '  loss         mean of −ln of the probability that each token was given,\n' +
          '               in nats (0.69 nats are one bit)\n' +
          '  perplexity   e to the loss: as unsure as between so many likely tokens\n' +
          '  a word       the same for the words of the text, between blanks\n' +
          '  bits a byte  of the text, were it compressed with the model; the figure\n' +
          '               to compare models of different tokenizers by\n\n' +
          'The text is one sequence; with a separator, in .jsonl files and in several files of a folder it is documents, each from its ' +
          'beginning. The first token of a sequence is given, not predicted. The model works in chunks that carry its state: its memory ' +
          'does not grow with the length.\n\n' +
          'A task is scored as lm-evaluation-harness does, without examples (docs/evaluation.md). Its rows are in TASK.jsonl of the folder that --data names.',
      )
      .argument('<model>', modelArgument)
      .argument('[text]', 'a file of UTF-8 text, or a .jsonl file, or a folder of them; none with --task')
      .option('--task <names>', `tasks instead of a text, with commas between: ${evalTaskNames.join(', ')}`, taskNames)
      .option('--data <folder>', 'where the tasks’ files are: TASK.jsonl, as piqa.jsonl (default: the current folder)')
      .addOption(dtypeOption())
      .addOption(verifyOption())
      .option('--chunk <n>', 'tokens a pass: more take more memory', integer(1), 1024)
      .option('--limit <n>', 'only the first n tokens of a text that is one sequence, or the first n items of each task (default: all)', integer(2))
      .option('--json', 'print one JSON object; of tasks: backend, tasks (items and figures with standard errors); of a text: loss, perplexity, wordPerplexity (absent where it is beyond all bounds), bitsPerByte, tokens (predicted), bytes and words (of these), tokensPerSecond'),
  )
    .addHelpText(
      'after',
      '\nExamples:\n  elapid eval runs/austen data/pride-and-prejudice.txt --limit 100000\n' +
        "  elapid eval stories held-out.txt --document-separator '<|endoftext|>'\n" +
        '  elapid eval models/mamba-130m --task lambada_openai,piqa --data benchmarks',
    )
    .action(run);
}

async function run(model: string, text: string | undefined, options: Options, command: Command): Promise<void> {
  const { task, data = '.' } = options;
  if (task !== undefined) {
    if (text !== undefined) command.error(`error: a text (${text}) is not read with '--task'; '--data' names the folder of the tasks' files`);
    for (const name of ['chunk', 'documentSeparator', 'textField']) refuseOption(command, name, "is for a text, not for '--task'");
    await evalOnTasks(model, task, data, options);
    return;
  }
  if (text === undefined) command.error("error: missing argument 'text': expected a text, or '--task' with the names of tasks");
  refuseOption(command, 'data', "is for '--task'");
  await evalOnText(model, text, options, command);
}

async function evalOnText(model: string, text: string, options: Options, command: Command): Promise<void> {
  await checkDocumentOptions(command, [text]);
  const files = await expandTexts('eval', [text]);
  const documents = files.length > 1 || options.documentSeparator !== undefined || files.some(isJsonLines);
  if (documents) refuseOption(command, 'limit', 'is for a text that is one sequence, not for documents');
  await measuring((signal, progress) =>
    withBackend(options, async (backend) => {
      const folder = await modelFolder(model);
      const loaded = await loadModel(folder, backend, { dtype: options.dtype, verify: options.verify, onWarning: printWarning });
      try {
        const tokenizer = await loadTokenizer(folder, loaded.config.vocabularySize);
        const started = performance.now();
        const pace = (tokens: number) => tokens / ((performance.now() - started) / 1000);
        const measure = documents ? measureDocuments : measureSequence;
        const { evaluation, bytes, words } = await measure(loaded, tokenizer, files, options, (total) => ({
          signal,
          onProgress(predicted, loss) {
            const left = duration((total - predicted) / pace(predicted));
            progress.show(`${grouped(predicted)} of ${grouped(total)} tokens  loss ${loss.toFixed(4)}  ${compact(pace(predicted))} tok/s  ${left} left`);
          },
        }));
        progress.clear();
        // A text without blanks is one long word: the figure may be infinite.
        const aWord = wordPerplexity(evaluation, words);
        const result = {
          loss: evaluation.loss,
          perplexity: perplexity(evaluation),
          ...(Number.isFinite(aWord) ? { wordPerplexity: aWord } : {}),
          bitsPerByte: bitsPerByte(evaluation, bytes),
          tokens: evaluation.tokens,
          bytes,
          words,
          tokensPerSecond: pace(evaluation.tokens),
        };
        for (const [name, value] of Object.entries(result)) {
          if (!Number.isFinite(value)) printWarning(`${name} is ${value}, beyond what JSON and a double can hold`);
        }
        process.stdout.write(
          options.json === true
            ? `${JSON.stringify(result)}\n`
            : `loss         ${result.loss.toFixed(4)} nats a token (mean −ln of the probability of the right one)\n` +
                `perplexity   ${result.perplexity.toFixed(3)} a token (e to the loss: unsure as between so many)\n` +
                (Number.isFinite(aWord) ? `             ${aWord < 1e6 ? aWord.toFixed(3) : aWord.toExponential(3)} a word\n` : '') +
                `bits a byte  ${result.bitsPerByte.toFixed(4)}\n` +
                `tokens       ${grouped(result.tokens)} predicted (${grouped(bytes)} bytes, ${grouped(words)} words) at ${compact(result.tokensPerSecond)} tok/s\n`,
        );
      } finally {
        loaded.dispose();
      }
    }),
  );
}

/** Predicts the tokens of `files`, and counts the bytes and words of these. The first token of a sequence is given, and does not count. */
type Measure = (
  model: LanguageModel,
  tokenizer: Tokenizer,
  files: readonly string[],
  options: Options,
  conduct: (tokens: number) => EvaluationConduct,
) => Promise<TextSize & { evaluation: Evaluation }>;

const measureSequence: Measure = async (model, tokenizer, [file = ''], { chunk, limit }, conduct) => {
  const tokens = await loadTextFile(file, tokenizer, limit === undefined ? {} : { limit });
  const evaluation = await evaluateSequence(model, tokens, { chunkLength: chunk, ...conduct(tokens.length - 1) });
  return { evaluation, ...textSize(tokenizer, tokens.subarray(1)) };
};

const measureDocuments: Measure = async (model, tokenizer, files, options, conduct) => {
  const source = await openTexts(files, options, tokenizer);
  try {
    let [tokens, bytes, words] = [0, 0, 0];
    for (let i = 0; i < source.count; i++) {
      const document = await source.open(i);
      // Nothing is predicted of a document of one token or none.
      if (document.length < 2) continue;
      const predicted = Int32Array.from(await document.read(1, document.length));
      tokens += predicted.length;
      // The token that ends a document is none of its text.
      const size = textSize(tokenizer, predicted.at(-1) === tokenizer.endOfText ? predicted.subarray(0, -1) : predicted);
      bytes += size.bytes;
      words += size.words;
    }
    const shape = { batchSize: rows, length: options.chunk };
    return { evaluation: await evaluate(model, packedPass(source, shape), shape, conduct(tokens)), bytes, words };
  } finally {
    await source.close();
  }
};
