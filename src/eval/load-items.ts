import { openText } from '../data/open-text.js';
import { ArgumentError } from '../util/errors.js';
import type { EvalItem, EvalTask } from './item.js';

/**
 * The items of a task from a file of JSON lines, a row of its data set a line; empty lines are left out.
 * @param path path (Node) or URL (browser)
 * @param options.limit only the first items
 * @throws ArgumentError where the file cannot be read, has no rows, or a line is not JSON
 * @throws CheckpointError naming the line and the key where a row is not one of the task's data set
 */
export async function loadItems(task: EvalTask, path: string, { limit = Infinity }: { readonly limit?: number } = {}): Promise<EvalItem[]> {
  const fail = (expected: string, got: string, hint?: string, cause?: unknown) => new ArgumentError({ operation: 'loadItems', argument: path, expected, got, hint }, { cause });
  const lines = (await readText(path, fail)).split('\n');
  const items: EvalItem[] = [];
  for (const [i, line] of lines.entries()) {
    if (items.length >= limit) break;
    if (line.trim() === '') continue;
    let row: unknown;
    try {
      row = JSON.parse(line);
    } catch (cause) {
      throw fail('a JSON object on every line', `something else on line ${i + 1}`, 'rows of a .jsonl file stand one on a line', cause);
    }
    items.push(task.item(row, `${path}, line ${i + 1}`));
  }
  if (items.length === 0) throw fail(`rows of ${task.name}`, 'empty');
  return items;
}

async function readText(path: string, fail: (expected: string, got: string, hint?: string, cause?: unknown) => ArgumentError): Promise<string> {
  const { file, start } = await openText('loadItems', path);
  try {
    const bytes = await file.read(start, file.sizeBytes - start);
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw cause instanceof TypeError ? fail('a file of UTF-8 text', 'not UTF-8', undefined, cause) : cause;
  } finally {
    await file.close();
  }
}
