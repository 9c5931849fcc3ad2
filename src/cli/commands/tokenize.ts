import { platform } from '#platform';
import type { Command } from 'commander';
import { shardIndexName, writeTokenShards } from '../../data/index.js';
import { ByteTokenizer, loadTokenizer } from '../../tokenizer/index.js';
import { grouped } from '../format.js';
import { exitCodes, interruption } from '../options.js';
import { ProgressLine } from '../progress.js';
import { copyTokenizer } from '../tokenizer-files.js';
import { documentOptions, openTexts, type DocumentOptions } from '../training-data.js';

interface Options extends DocumentOptions {
  readonly out: string;
  readonly tokenizer?: string;
}

/** `elapid tokenize FILES… --out FOLDER` */
export function addTokenize(program: Command): void {
  documentOptions(program.command('tokenize'))
    .summary('turn texts into token shards to train on')
    .description(
      'Tokenizes text or JSON lines once and writes token shards, which elapid train reads in pieces: a corpus larger than\n' +
        'memory, without the time of tokenizing while it trains. The tokenizer is copied into the folder.',
    )
    .argument('<files...>', 'UTF-8 text files, or .jsonl files')
    .requiredOption('-o, --out <folder>', 'folder of the shards')
    .option('--tokenizer <folder>', 'folder with a tokenizer.json (default: bytes)')
    .addHelpText('after', '\nExample:\n  elapid tokenize stories.jsonl --out stories\n  elapid train stories --out runs/stories')
    .action(run);
}

async function run(files: readonly string[], options: Options): Promise<void> {
  const { out, tokenizer: folder } = options;
  const tokenizer = folder === undefined ? new ByteTokenizer() : await loadTokenizer(folder, Number.MAX_SAFE_INTEGER);
  const { signal, stop } = interruption();
  const progress = new ProgressLine();
  try {
    const source = await openTexts(files, options, tokenizer);
    // Before the shards: their index, written last, says that all is there.
    if (folder !== undefined && (await platform.pathKind(platform.joinPath(out, shardIndexName))) === undefined) {
      await platform.makeFolder(out);
      await copyTokenizer(folder, out);
    }
    const { documents, tokens, shards } = await writeTokenShards(source, out, {
      vocabularySize: tokenizer.vocabularySize,
      signal,
      onDocument({ documents, tokens }) {
        if (documents % 256 === 0) progress.show(`${grouped(documents)} of ${grouped(source.count)} documents  ${grouped(tokens)} tokens`);
      },
    });
    progress.clear();
    process.stderr.write(`${grouped(documents)} documents of ${grouped(tokens)} tokens in ${grouped(shards)} shards, in ${out}\n`);
  } catch (error) {
    if (!signal.aborted) throw error;
    progress.clear();
    process.exitCode = exitCodes.interrupted;
  } finally {
    progress.clear();
    stop();
  }
}
