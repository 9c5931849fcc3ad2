import { platform } from '#platform';
import type { Command } from 'commander';
import { loadTextFile, openTextDocuments, openTokenShards, splitDocuments, splitText } from '../data/index.js';
import { isJsonLines } from '../data/text-documents.js';
import { shardIndexName } from '../data/token-shards.js';
import type { DocumentDataset, DocumentSource, TokenDataset } from '../data/index.js';
import { ByteTokenizer, loadTokenizer, type Tokenizer } from '../tokenizer/index.js';
import { ArgumentError } from '../util/errors.js';
import { grouped } from './format.js';
import { refuseOption } from './options.js';
import type { RunFile } from './run-file.js';
import { expandTexts, isShards } from './text-paths.js';

/** Options that say how text files hold documents. */
export interface DocumentOptions {
  readonly documentSeparator?: string;
  readonly textField?: string;
}

/** What an argument that names texts may be. */
export const textsArgument = 'files of UTF-8 text, or .jsonl files, or folders of them (.txt, .text, .md, .jsonl, .ndjson, by name)';

/** Adds `--document-separator` and `--text-field`. */
export function documentOptions(command: Command): Command {
  return command
    .option('--document-separator <line>', 'a line that stands between documents in plain text, as <|endoftext|> (default: none, a file is one text)')
    .option('--text-field <key>', 'the key of the text in .jsonl files (default: text)');
}

/** Ends with a usage error where an option says how documents lie in files of a kind that none of `paths` is. */
export async function checkDocumentOptions(command: Command, paths: readonly string[]): Promise<void> {
  const shards = await Promise.all(paths.map(isShards));
  const files = await expandTexts(command.name(), paths.filter((_, i) => shards[i] !== true));
  if (files.length === 0) {
    for (const name of ['documentSeparator', 'textField']) refuseOption(command, name, 'is for texts; token shards know their documents');
  }
  if (files.every(isJsonLines)) refuseOption(command, 'documentSeparator', 'is for plain text; in .jsonl files a line is a document');
  if (!files.some(isJsonLines)) refuseOption(command, 'textField', 'is for .jsonl files');
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
  return { tokenizer: folder === null ? new ByteTokenizer() : await loadTokenizer(folder), folder };
}

/** Ids of a model for this tokenizer: padded to a multiple of 8, as the published models' are. */
export const vocabularyOf = (tokenizer: Tokenizer): number => Math.ceil(tokenizer.vocabularySize / 8) * 8;

/**
 * Opens what a run trains on: one plain text file without a separator as one stream of tokens (where what is held out is one
 * too), all else as documents.
 * @throws ArgumentError or CheckpointError, which name what is wrong with the files
 */
export async function openTrainingData(
  settings: DataSettings,
  tokenizer: Tokenizer,
): Promise<{ dataset: TokenDataset | DocumentDataset; size: string; close: () => Promise<void> }> {
  const { validation, validationShare, documentSeparator } = settings;
  const paths = await sourcePaths([settings.text].flat());
  const heldOut = validation === undefined ? undefined : await sourcePaths([validation]);
  const stream = async (of: readonly string[]) => of.length === 1 && documentSeparator === undefined && !of.some(isJsonLines) && !(await isShards(of[0] ?? ''));
  if ((await stream(paths)) && (heldOut === undefined || (await stream(heldOut)))) {
    const tokens = await loadTextFile(paths[0] ?? '', tokenizer);
    const dataset =
      heldOut === undefined ? splitText(tokens, validationShare) : { training: tokens, validation: await loadTextFile(heldOut[0] ?? '', tokenizer) };
    return { dataset, size: sizeOf(dataset.training.length, dataset.validation.length, 'tokens'), close: () => Promise.resolve() };
  }
  const source = await openDocuments(paths, settings, tokenizer);
  try {
    const dataset =
      heldOut === undefined
        ? splitDocuments(source, validationShare)
        : { training: source, validation: await openDocuments(heldOut, settings, tokenizer) };
    const close = async () => {
      await source.close();
      if (heldOut !== undefined) await dataset.validation.close();
    };
    return { dataset, size: sizeOf(dataset.training.count, dataset.validation.count, 'documents'), close };
  } catch (error) {
    await source.close();
    throw error;
  }
}

const sizeOf = (training: number, heldOut: number, unit: string) => `${grouped(training)} training and ${grouped(heldOut)} held-out ${unit}`;

/** Files of text, or one folder of shards. */
const sourcePaths = async (paths: readonly string[]): Promise<readonly string[]> =>
  paths.length === 1 && (await isShards(paths[0] ?? '')) ? paths : expandTexts('train', paths);

async function openDocuments(paths: readonly string[], settings: DataSettings, tokenizer: Tokenizer): Promise<DocumentSource> {
  const [path = ''] = paths;
  if (paths.length === 1 && (await isShards(path))) {
    const shards = await openTokenShards(path);
    if (shards.vocabularySize === tokenizer.vocabularySize) return shards;
    await shards.close();
    const [made, given] = [String(shards.vocabularySize), String(tokenizer.vocabularySize)];
    throw new ArgumentError(`train: ${platform.joinPath(path, shardIndexName)} was made with a tokenizer of ${made} ids; this one has ${given}. Hint: tokenize all texts with the same --tokenizer`);
  }
  return openTexts(paths, settings, tokenizer);
}
