import { platform } from '#platform';
import type { Command } from 'commander';
import { documentTexts } from '../../data/text-documents.js';
import { BytePairTrainer, HuggingFaceTokenizer } from '../../tokenizer/index.js';
import { largestVocabulary } from '../../tokenizer/byte-pair-trainer.js';
import { byteSize, counted, duration, grouped } from '../format.js';
import { integer, overwriteOption } from '../options.js';
import { makingFolder, withOutFolder } from '../out-folder.js';
import { ProgressLine } from '../progress.js';
import { expandTexts } from '../text-paths.js';
import { checkDocumentOptions, documentOptions, textsArgument, type DocumentOptions } from '../training-data.js';

interface Options extends DocumentOptions {
  readonly out: string;
  readonly overwrite?: boolean;
  readonly vocabulary: number;
}

/** `elapid tokenizer train FILES… --out FOLDER` */
export function addTokenizer(program: Command): void {
  const tokenizer = program.command('tokenizer').summary('make a tokenizer from texts').description('Makes tokenizers.');
  documentOptions(tokenizer.command('train'))
    .summary('learn a vocabulary of subwords from texts')
    .description(
      'Learns a byte-level byte-pair encoding from texts and writes it as tokenizer.json, which elapid train --tokenizer, tokenize --tokenizer and ' +
        'other programs read. Its words are those of GPT-2. The same texts always give the same file. Memory grows with the number of different ' +
        'words, not with the texts.',
    )
    .argument('<files...>', textsArgument)
    .requiredOption('-o, --out <folder>', 'folder of the tokenizer')
    .addOption(overwriteOption('replace the tokenizer, model, run or shards in the folder, when the new tokenizer is whole'))
    .option('--vocabulary <n>', 'ids: 256 bytes and the merges of pairs; a text without so many pairs that occur twice gives fewer', integer(257, largestVocabulary), 4096)
    .addHelpText('after', '\nExamples:\n  elapid tokenizer train data/pride-and-prejudice.txt --vocabulary 4096 --out subwords\n  elapid train data/pride-and-prejudice.txt --tokenizer subwords --out runs/subwords')
    .action(run);
}

async function run(paths: readonly string[], options: Options, command: Command): Promise<void> {
  const operation = 'tokenizer train';
  const files = await expandTexts(operation, paths);
  await checkDocumentOptions(command, paths);
  const { out: folder, overwrite = false, vocabulary, documentSeparator: separator, textField } = options;
  const progress = new ProgressLine();
  const started = performance.now();
  await makingFolder(folder, async (signal) => {
    try {
      await withOutFolder({ operation, folder, overwrite, aside: true, reads: [...paths, ...files] }, async (out) => {
        const trainer = new BytePairTrainer();
        let characters = 0;
        for await (const document of documentTexts(files, { ...(separator === undefined ? {} : { separator }), ...(textField === undefined ? {} : { textField }) })) {
          for await (const piece of document) {
            signal.throwIfAborted();
            if (characters > 0) progress.show(`${grouped(characters)} characters read  ${counted(trainer.words, 'different word')}`);
            trainer.add(piece);
            characters += piece.length;
          }
          trainer.endText();
        }
        const onProgress = (ids: number) => {
          progress.show(`${grouped(ids)} of ${grouped(vocabulary)} ids`);
        };
        const definition = await trainer.train({ vocabularySize: vocabulary, onProgress, signal });
        const content = new TextEncoder().encode(`${JSON.stringify(definition, null, 1)}\n`);
        await platform.writeFileAtomically(platform.joinPath(out.working, 'tokenizer.json'), [content]);
        await out.settle();
        progress.clear();
        const ids = new HuggingFaceTokenizer(definition).vocabularySize;
        const fewer = ids < vocabulary ? ` (not ${grouped(vocabulary)}: no pair occurs twice any more)` : '';
        const seconds = (performance.now() - started) / 1000;
        process.stderr.write(`${counted(ids, 'id')}${fewer} from ${counted(trainer.words, 'different word')} in ${duration(seconds)}: tokenizer.json (${byteSize(content.length)}) in ${folder}\n`);
      });
    } finally {
      progress.clear();
    }
  });
}
