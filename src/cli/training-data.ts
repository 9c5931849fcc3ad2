import { platform } from '#platform';
import type { Command } from 'commander';
import { isJsonLines, loadTextFile, openTextDocuments, openTokenShards, shardIndexName, splitDocuments, splitText } from '../data/index.js';
import type { DocumentDataset, DocumentSource, TokenDataset } from '../data/index.js';
import { ByteTokenizer, loadTokenizer, type Tokenizer } from '../tokenizer/index.js';
import { ArgumentError } from '../util/errors.js';
import { grouped } from './format.js';
import type { RunFile } from './run-file.js';

/** Options that say how text files hold documents. */
export interface DocumentOptions {
  readonly documentSeparator?: string;
  readonly textField?: string;
}

/** Adds `--document-separator` and `--text-field`. */
export function documentOptions(command: Command): Command {
  return command
    .option('--document-separator <line>', 'a line that stands between documents, as <|endoftext|>')
    .option('--text-field <key>', 'the key of the text in .jsonl files (default: text)');
}

/** The documents of text files. */
export const openTexts = (paths: readonly string[], { documentSeparator, textField }: DocumentOptions, tokenizer: Tokenizer): Promise<DocumentSource> =>
  openTextDocuments(paths, {
    tokenizer,
    ...(documentSeparator === undefined ? {} : { separator: documentSeparator }),
    ...(textField === undefined ? {} : { textField }),
  });

/** What training data is read with: the part of a run's settings that concerns it. */
export type DataSettings = Pick<RunFile, 'text' | 'tokenizer' | 'documentSeparator' | 'textField' | 'validation' | 'validationShare'>;

/** The tokenizer of a run, and the folder it is from: the one asked for, else that of a folder of shards, else bytes. */
export async function tokenizerFor({ text, tokenizer }: DataSettings): Promise<{ tokenizer: Tokenizer; folder: string | null }> {
  const own = typeof text === 'string' && (await platform.pathKind(platform.joinPath(text, 'tokenizer.json'))) === 'file' ? text : null;
  const folder = tokenizer ?? own;
  return { tokenizer: folder === null ? new ByteTokenizer() : await loadTokenizer(folder, Number.MAX_SAFE_INTEGER), folder };
}

/** Ids of a model for this tokenizer: padded to a multiple of 8, as the published models' are. */
export const vocabularyOf = (tokenizer: Tokenizer): number => Math.ceil(tokenizer.vocabularySize / 8) * 8;

/**
 * Opens what a run trains on: one plain text file without a separator as one stream of tokens, all else as documents.
 * @throws ArgumentError or CheckpointError, which name what is wrong with the files
 */
export async function openTrainingData(
  settings: DataSettings,
  tokenizer: Tokenizer,
): Promise<{ dataset: TokenDataset | DocumentDataset; size: string; close: () => Promise<void> }> {
  const { validation, validationShare, documentSeparator } = settings;
  const paths = [settings.text].flat();
  const [path = ''] = paths;
  const documents = paths.length > 1 || documentSeparator !== undefined || isJsonLines(path) || (await isShards(path));
  if (!documents) {
    const tokens = await loadTextFile(path, tokenizer);
    const dataset =
      validation === undefined ? splitText(tokens, validationShare) : { training: tokens, validation: await loadTextFile(validation, tokenizer) };
    return { dataset, size: sizeOf(dataset.training.length, dataset.validation.length, 'tokens'), close: () => Promise.resolve() };
  }
  const source = await openDocuments(paths, settings, tokenizer);
  try {
    const dataset =
      validation === undefined
        ? splitDocuments(source, validationShare)
        : { training: source, validation: await openDocuments([validation], settings, tokenizer) };
    const close = async () => {
      await source.close();
      if (validation !== undefined) await dataset.validation.close();
    };
    return { dataset, size: sizeOf(dataset.training.count, dataset.validation.count, 'documents'), close };
  } catch (error) {
    await source.close();
    throw error;
  }
}

const sizeOf = (training: number, heldOut: number, unit: string) => `${grouped(training)} training and ${grouped(heldOut)} held-out ${unit}`;

const isShards = async (path: string) => (await platform.pathKind(path)) === 'folder';

async function openDocuments(paths: readonly string[], settings: DataSettings, tokenizer: Tokenizer): Promise<DocumentSource> {
  const [path = ''] = paths;
  if (paths.length === 1 && (await isShards(path))) {
    const shards = await openTokenShards(path);
    if (shards.vocabularySize === tokenizer.vocabularySize) return shards;
    await shards.close();
    const [made, given] = [String(shards.vocabularySize), String(tokenizer.vocabularySize)];
    throw new ArgumentError(`train: ${platform.joinPath(path, shardIndexName)} was made with a tokenizer of ${made} ids; this one has ${given}`);
  }
  return openTexts(paths, settings, tokenizer);
}
