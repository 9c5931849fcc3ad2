import type { Command } from 'commander';
import { isJsonLines, loadTextFile, packedPass, type TokenArray } from '../../data/index.js';
import { loadMamba, type MambaLM, type WeightDType } from '../../models/index.js';
import { ByteTokenizer, loadTokenizer, type Tokenizer } from '../../tokenizer/index.js';
import { bitsPerByte, evaluate, evaluateSequence, perplexity, type Evaluation, type EvaluationConduct } from '../../train/index.js';
import { compact, duration, grouped } from '../format.js';
import { modelArgument, modelFolder } from '../model-argument.js';
import { exitCodes, integer, interruption, dtypeOption, printWarning, verifyOption, withBackend, withComputeOptions, type ComputeOptions } from '../options.js';
import { ProgressLine } from '../progress.js';
import { documentOptions, openTexts, type DocumentOptions } from '../training-data.js';

interface Options extends ComputeOptions, DocumentOptions {
  readonly dtype?: WeightDType;
  readonly verify?: true;
  readonly chunk: number;
  readonly limit?: number;
  readonly json?: boolean;
}

/** Documents that are read side by side. */
const rows = 8;

/** `elapid eval MODEL TEXT` */
export function addEval(program: Command): void {
  withComputeOptions(
    documentOptions(program.command('eval'))
      .summary('measure how well a model predicts a text')
      .description(
        'Reports how well a model predicts a text: loss (nats a token), perplexity a token, and bits a byte. The text is one\n' +
          'sequence, or, with a separator and in .jsonl files, documents, each from the beginning. It is read in chunks that\n' +
          'carry the state: memory does not grow with its length.',
      )
      .argument('<model>', modelArgument)
      .argument('<text>', 'a UTF-8 text file, or a .jsonl file')
      .addOption(dtypeOption())
      .addOption(verifyOption())
      .option('--chunk <n>', 'tokens a pass', integer(1), 1024)
      .option('--limit <n>', 'only the first n tokens of a sequence', integer(2))
      .option('--json', 'print one JSON object'),
  )
    .addHelpText(
      'after',
      '\nExamples:\n  elapid eval runs/austen data/pride-and-prejudice.txt --limit 100000\n' +
        "  elapid eval stories held-out.txt --document-separator '<|endoftext|>'",
    )
    .action(run);
}

async function run(model: string, text: string, options: Options, command: Command): Promise<void> {
  const documents = options.documentSeparator !== undefined || isJsonLines(text);
  if (documents && options.limit !== undefined) command.error("error: '--limit' is for a text that is one sequence, not for documents");
  const { signal, stop } = interruption();
  const progress = new ProgressLine();
  try {
    await withBackend(options, async (backend) => {
      const folder = await modelFolder(model);
      const loaded = await loadMamba(folder, backend, { dtype: options.dtype, verify: options.verify, onWarning: printWarning });
      try {
        const tokenizer = await loadTokenizer(folder, loaded.config.vocabularySize);
        const started = performance.now();
        const pace = (tokens: number) => tokens / ((performance.now() - started) / 1000);
        const measure = documents ? measureDocuments : measureSequence;
        const { evaluation, bytes } = await measure(loaded, tokenizer, text, options, (total) => ({
          signal,
          onProgress(predicted, loss) {
            const left = duration((total - predicted) / pace(predicted));
            progress.show(`${grouped(predicted)} of ${grouped(total)} tokens  loss ${loss.toFixed(4)}  ${compact(pace(predicted))} tok/s  ${left} left`);
          },
        }));
        progress.clear();
        const result = {
          loss: evaluation.loss,
          perplexity: perplexity(evaluation),
          bitsPerByte: bitsPerByte(evaluation, bytes),
          tokens: evaluation.tokens,
          bytes,
          tokensPerSecond: pace(evaluation.tokens),
        };
        for (const [name, value] of Object.entries(result)) {
          if (!Number.isFinite(value)) printWarning(`${name} is ${String(value)}, beyond what JSON and a double can hold`);
        }
        process.stdout.write(
          options.json === true
            ? `${JSON.stringify(result)}\n`
            : `loss         ${result.loss.toFixed(4)} nats a token\n` +
                `perplexity   ${result.perplexity.toFixed(3)} a token\n` +
                `bits a byte  ${result.bitsPerByte.toFixed(4)}\n` +
                `tokens       ${grouped(result.tokens)} (${grouped(bytes)} bytes) at ${compact(result.tokensPerSecond)} tok/s\n`,
        );
      } catch (error) {
        if (!signal.aborted) throw error;
        progress.clear();
        process.exitCode = exitCodes.interrupted;
      } finally {
        loaded.dispose();
      }
    });
  } finally {
    stop();
  }
}

/** How the tokens of `text` are predicted, and the bytes of those: the first of a sequence is given, and does not count. */
type Measure = (
  model: MambaLM,
  tokenizer: Tokenizer,
  text: string,
  options: Options,
  conduct: (tokens: number) => EvaluationConduct,
) => Promise<{ evaluation: Evaluation; bytes: number }>;

const measureSequence: Measure = async (model, tokenizer, text, { chunk, limit }, conduct) => {
  const all = await loadTextFile(text, tokenizer);
  const tokens = limit === undefined ? all : all.subarray(0, limit);
  const evaluation = await evaluateSequence(model, tokens, { chunkLength: chunk, ...conduct(tokens.length) });
  return { evaluation, bytes: countBytes(tokenizer, tokens.subarray(1)) };
};

const measureDocuments: Measure = async (model, tokenizer, text, options, conduct) => {
  const source = await openTexts([text], options, tokenizer);
  try {
    let [tokens, bytes] = [0, 0];
    for (let i = 0; i < source.count; i++) {
      const document = await source.open(i);
      tokens += document.length - 1;
      bytes += countBytes(tokenizer, Int32Array.from(await document.read(1, document.length)));
    }
    const shape = { batchSize: rows, length: options.chunk };
    return { evaluation: await evaluate(model, packedPass(source, shape), shape, conduct(tokens)), bytes };
  } finally {
    await source.close();
  }
};

/** UTF-8 bytes of a text; of byte tokens they are known also where the text begins or ends within a character. */
function countBytes(tokenizer: Tokenizer, tokens: TokenArray): number {
  return tokenizer instanceof ByteTokenizer ? tokens.length : new TextEncoder().encode(tokenizer.decode(tokens)).length;
}
