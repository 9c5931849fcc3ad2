import type { Command } from 'commander';
import { writeTokenShards } from '../../data/index.js';
import { ByteTokenizer, loadTokenizer } from '../../tokenizer/index.js';
import { counted, grouped } from '../format.js';
import { overwriteOption } from '../options.js';
import { makingFolder, withOutFolder } from '../out-folder.js';
import { ProgressLine } from '../progress.js';
import { copyTokenizer } from '../tokenizer-files.js';
import { expandTexts } from '../text-paths.js';
import { checkDocumentOptions, documentOptions, openTexts, textsArgument, type DocumentOptions } from '../training-data.js';

interface Options extends DocumentOptions {
  readonly out: string;
  readonly overwrite?: boolean;
  readonly tokenizer?: string;
}

/** `elapid tokenize FILES… --out FOLDER` */
export function addTokenize(program: Command): void {
  documentOptions(program.command('tokenize'))
    .summary('turn texts into token shards to train on')
    .description(
      'Tokenizes text or JSON lines once and writes token shards, which elapid train reads in pieces: a corpus larger than ' +
        'memory, without the time of tokenizing while it trains. The tokenizer is copied into the folder. A document is a file, ' +
        'what lies between two separators, or a line of a .jsonl file; empty ones are left out.',
    )
    .argument('<files...>', textsArgument)
    .requiredOption('-o, --out <folder>', 'folder of the shards')
    .addOption(overwriteOption('replace the shards, model or run in the folder, when the new shards are whole'))
    .option('--tokenizer <folder>', 'folder with a tokenizer.json (default: bytes, 256 ids)')
    .addHelpText('after', '\nExamples:\n  elapid tokenize stories.jsonl --out stories\n  elapid train stories --out runs/stories')
    .action(run);
}

async function run(paths: readonly string[], options: Options, command: Command): Promise<void> {
  await checkDocumentOptions(command, paths);
  const files = await expandTexts('tokenize', paths);
  const { out: folder, overwrite = false, tokenizer: from } = options;
  const progress = new ProgressLine();
  await makingFolder(folder, async (signal) => {
    try {
      const use = { operation: 'tokenize', folder, overwrite, aside: true, reads: [...paths, ...files], tokenizer: from ?? null };
      await withOutFolder(use, async (out) => {
        const tokenizer = from === undefined ? new ByteTokenizer() : await loadTokenizer(from);
        const source = await openTexts(files, options, tokenizer);
        if (from !== undefined) await copyTokenizer(from, out.working);
        const { documents, tokens, shards } = await writeTokenShards(source, out.working, {
          vocabularySize: tokenizer.vocabularySize,
          signal,
          onDocument({ documents, tokens }) {
            if (documents % 256 === 0) progress.show(`${grouped(documents)} of ${grouped(source.count)} documents  ${grouped(tokens)} tokens`);
          },
        });
        await out.settle();
        progress.clear();
        process.stderr.write(`${counted(documents, 'document')} of ${counted(tokens, 'token')} in ${counted(shards, 'shard')}, in ${folder}\n`);
      });
    } finally {
      progress.clear();
    }
  });
}
