import { platform } from '#platform';
import { describeMissing } from '../io/missing-path.js';
import { ArgumentError } from '../util/errors.js';

/**
 * The rows of a JSON-lines file.
 * @param limit only so many
 * @throws ArgumentError where the file is missing or a line is no JSON
 */
export async function scanTaskRows(path: string, limit = Infinity): Promise<unknown[]> {
  if ((await platform.pathKind(path)) !== 'file') throw new ArgumentError(`eval: ${path}: ${await describeMissing(path)}. Hint: --data names a folder with a file TASK.jsonl for each task`);
  const rows: unknown[] = [];
  const lines = new TextDecoder().decode(await platform.readFile(path)).split('\n');
  for (const [i, line] of lines.entries()) {
    if (rows.length >= limit) break;
    if (line.trim() === '') continue;
    try {
      rows.push(JSON.parse(line));
    } catch (cause) {
      throw new ArgumentError(`eval: ${path}: line ${i + 1} is not JSON: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
    }
  }
  if (rows.length === 0) throw new ArgumentError(`eval: ${path}: expected a row of JSON on each line, got an empty file`);
  return rows;
}
