import type { Command } from 'commander';
import { loadTextFile, type TokenArray } from '../../data/index.js';
import { loadMamba, type WeightDType } from '../../models/index.js';
import { ByteTokenizer, loadTokenizer, type Tokenizer } from '../../tokenizer/index.js';
import { bitsPerByte, evaluateSequence, perplexity } from '../../train/index.js';
import { compact, duration, grouped } from '../format.js';
import { exitCodes, integer, interruption, dtypeOption, withBackend, withComputeOptions, type ComputeOptions } from '../options.js';
import { ProgressLine } from '../progress.js';

interface Options extends ComputeOptions {
  readonly dtype?: WeightDType;
  readonly chunk: number;
  readonly limit?: number;
  readonly json?: boolean;
}

/** `elapid eval MODEL TEXT` */
export function addEval(program: Command): void {
  withComputeOptions(
    program
      .command('eval')
      .summary('measure how well a model predicts a text')
      .description(
        'Reads a text as one sequence and reports how well the model predicts it: loss (nats a token), perplexity a token,\n' +
          'and bits a byte. The text is read in chunks that carry the state: memory does not grow with its length.',
      )
      .argument('<model>', 'folder of a Mamba checkpoint, or of a training run')
      .argument('<text>', 'a UTF-8 text file')
      .addOption(dtypeOption())
      .option('--chunk <n>', 'tokens a pass', integer(1), 1024)
      .option('--limit <n>', 'only the first n tokens', integer(2))
      .option('--json', 'print one JSON object'),
  )
    .addHelpText('after', '\nExample:\n  elapid eval runs/austen data/pride-and-prejudice.txt --limit 100000')
    .action(run);
}

async function run(model: string, text: string, options: Options): Promise<void> {
  const { signal, stop } = interruption();
  const progress = new ProgressLine();
  try {
    await withBackend(options, async (backend) => {
      const loaded = await loadMamba(model, backend, { dtype: options.dtype });
      try {
        const tokenizer = await loadTokenizer(model, loaded.config.vocabularySize);
        const all = await loadTextFile(text, tokenizer);
        const tokens = options.limit === undefined ? all : all.subarray(0, options.limit);
        const started = performance.now();
        const evaluation = await evaluateSequence(loaded, tokens, {
          chunkLength: options.chunk,
          signal,
          onProgress(predicted, loss) {
            const pace = predicted / ((performance.now() - started) / 1000);
            const left = duration((tokens.length - predicted) / pace);
            progress.show(`${grouped(predicted)} of ${grouped(tokens.length)} tokens  loss ${loss.toFixed(4)}  ${compact(pace)} tok/s  ${left} left`);
          },
        });
        progress.clear();
        // The first token is given, not predicted: its bytes do not count.
        const bytes = countBytes(tokenizer, tokens.subarray(1));
        const result = {
          loss: evaluation.loss,
          perplexity: perplexity(evaluation),
          bitsPerByte: bitsPerByte(evaluation, bytes),
          tokens: evaluation.tokens,
          bytes,
          tokensPerSecond: evaluation.tokens / ((performance.now() - started) / 1000),
        };
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

/** UTF-8 bytes of a text; of byte tokens they are known also where the text begins or ends within a character. */
function countBytes(tokenizer: Tokenizer, tokens: TokenArray): number {
  return tokenizer instanceof ByteTokenizer ? tokens.length : new TextEncoder().encode(tokenizer.decode(tokens)).length;
}
