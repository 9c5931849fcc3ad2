/** The one way in which files of JSON are read: configs, indexes, tokenizers, settings of runs. */
import { CheckpointError } from '../util/errors.js';
import { openForReading, readRange, refuseForeignContent } from './checked-file.js';
import { expectObject, parseJson, type JsonObject, type JsonOptions, type JsonText } from './json.js';

const maxSizeBytes = 1 << 26;

/** What Windows' editors put before a text in UTF-8. */
const byteOrderMark = [0xef, 0xbb, 0xbf];

/**
 * Reads a file of JSON.
 * @param path path (Node) or URL (browser)
 * @throws CheckpointError when it cannot be read, is plainly something else, as a web page, is larger than 64 MiB, or is no JSON (`parseJson`)
 */
export async function readJsonFile(path: string, options: Pick<JsonOptions, 'pythonFloats'> = {}): Promise<JsonText> {
  const file = await openForReading(path);
  try {
    await refuseForeignContent(file);
    if (file.sizeBytes > maxSizeBytes) {
      throw new CheckpointError(`the JSON file is ${file.sizeBytes} bytes long; expected at most ${maxSizeBytes}`, { file: path });
    }
    const bytes = await readRange(file, 0, file.sizeBytes, 'the JSON text');
    const offset = byteOrderMark.every((byte, i) => bytes[i] === byte) ? byteOrderMark.length : 0;
    return parseJson(bytes.subarray(offset), path, { ...options, offset });
  } finally {
    await file.close();
  }
}

/**
 * Reads a file of JSON whose top level is an object.
 * @throws CheckpointError as `readJsonFile`, and when it is no object
 */
export const readJsonObject = async (path: string, options?: Pick<JsonOptions, 'pythonFloats'>): Promise<JsonObject> =>
  expectObject(await readJsonFile(path, options), path);
