import { platform } from '#platform';
import { CheckpointError } from '../util/errors.js';
import { describeForeignContent } from '../util/file-content.js';
import { ByteTokenizer } from './byte-tokenizer.js';
import { HuggingFaceTokenizer } from './hugging-face-tokenizer.js';
import type { Tokenizer } from './tokenizer.js';

/**
 * The tokenizer of the model in `folder`: its tokenizer.json, or bytes where there is none and the model has 256 ids.
 * @param folder path (Node) or URL (browser)
 * @param vocabularySize how many ids the model has
 * @throws CheckpointError where a file is damaged, the tokenizer has more ids than the model, or there is no tokenizer
 */
export async function loadTokenizer(folder: string, vocabularySize: number): Promise<Tokenizer> {
  const file = platform.joinPath(folder, 'tokenizer.json');
  if ((await platform.pathKind(file)) === undefined) {
    if (vocabularySize === 256) return new ByteTokenizer();
    const size = String(vocabularySize);
    throw new CheckpointError(
      `there is no tokenizer.json, and the model has ${size} ids; only a model of 256 ids reads plain bytes. ` +
        'Hint: copy the tokenizer.json of the model it was trained with into the folder',
      { file: folder },
    );
  }
  const config = platform.joinPath(folder, 'tokenizer_config.json');
  const configJson = (await platform.pathKind(config)) === undefined ? {} : await readJson(config);
  const tokenizer = new HuggingFaceTokenizer(await readJson(file), configJson, { tokenizer: file, config });
  if (tokenizer.vocabularySize > vocabularySize) {
    const [ids, places] = [String(tokenizer.vocabularySize), String(vocabularySize)];
    throw new CheckpointError(`the tokenizer has ${ids} ids, but the model only ${places}`, { file });
  }
  return tokenizer;
}

async function readJson(file: string): Promise<unknown> {
  try {
    const bytes = await platform.readFile(file);
    const foreign = describeForeignContent(bytes, bytes.length);
    if (foreign !== undefined) throw new CheckpointError(foreign, { file });
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)) as unknown;
  } catch (error) {
    if (error instanceof CheckpointError) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    throw new CheckpointError(`not a readable JSON file: ${reason}`, { file }, { cause: error });
  }
}
