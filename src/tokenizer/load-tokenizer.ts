import { platform } from '#platform';
import { isGguf } from '../io/checkpoint.js';
import { readGgufTokenizer } from '../io/gguf/gguf-tokenizer.js';
import { readJsonFile } from '../io/json-file.js';
import { CheckpointError } from '../util/errors.js';
import { ByteTokenizer } from './byte-tokenizer.js';
import { HuggingFaceTokenizer } from './hugging-face-tokenizer.js';
import type { Tokenizer } from './tokenizer.js';

/**
 * The tokenizer of the model in `folder`: its tokenizer.json, or bytes where there is none and the model has 256 ids. Of a GGUF file
 * the tokenizer inside it.
 * @param folder path (Node) or URL (browser); or that of a GGUF file
 * @param vocabularySize how many ids the model has; none: there is no model yet, and any tokenizer.json will do
 * @throws CheckpointError where a file is damaged, the tokenizer has more ids than the model, or there is no tokenizer
 */
export async function loadTokenizer(folder: string, vocabularySize?: number): Promise<Tokenizer> {
  const inside = isGguf(folder) && (await platform.pathKind(folder)) === 'file';
  const files = inside ? await ofGguf(folder) : await ofFolder(folder);
  if (files === undefined) {
    if (vocabularySize === 256) return new ByteTokenizer();
    const problem = inside ? noneInside : vocabularySize === undefined ? await noTokenizer(folder) : noTokenizerFor(vocabularySize);
    throw new CheckpointError(problem, { file: folder });
  }
  const { definition, config, names } = files;
  const tokenizer = new HuggingFaceTokenizer(definition, config, names);
  if (vocabularySize !== undefined && tokenizer.vocabularySize > vocabularySize) {
    const [ids, places] = [String(tokenizer.vocabularySize), String(vocabularySize)];
    throw new CheckpointError(`the tokenizer has ${ids} ids, but the model only ${places}. Hint: is it the tokenizer of another model?`, { file: names.tokenizer });
  }
  return tokenizer;
}

async function ofGguf(path: string) {
  const files = await readGgufTokenizer(path);
  return files === undefined ? undefined : { ...files, names: { tokenizer: path, config: path } };
}

async function ofFolder(folder: string) {
  const file = platform.joinPath(folder, 'tokenizer.json');
  if ((await platform.pathKind(file)) === undefined) return undefined;
  const config = platform.joinPath(folder, 'tokenizer_config.json');
  const configJson = (await platform.pathKind(config)) === undefined ? {} : (await readJsonFile(config)).value;
  return { definition: (await readJsonFile(file)).value, config: configJson, names: { tokenizer: file, config } };
}

const noneInside = 'has no tokenizer; only a model of 256 ids reads plain bytes. Hint: take the original checkpoint with its tokenizer.json';
const noTokenizerFor = (vocabularySize: number): string =>
  `there is no tokenizer.json, and the model has ${vocabularySize} ids; only a model of 256 ids reads plain bytes. ` +
  'Hint: copy the tokenizer.json of the model it was trained with into the folder';

async function noTokenizer(folder: string): Promise<string> {
  const kind = await platform.pathKind(folder);
  const problem = kind === 'folder' ? 'there is no tokenizer.json in it' : kind === 'file' ? 'is a file; expected a folder with a tokenizer.json' : 'no such folder';
  return `${problem}. Hint: name a folder with the tokenizer.json of a model, or none, to read a text as bytes`;
}
