/**
 * Checksums in the metadata of safetensors files that this package writes: of every tensor, and of what the header says. Other
 * programs see one more pair of strings.
 */
import * as v from 'valibot';
import { checksumOf } from '../util/checksum.js';
import { CheckpointError } from '../util/errors.js';
import { expectChecksum } from './checked-file.js';
import type { CheckpointEntry } from './checkpoint-entry.js';
import type { SafetensorsHeader } from './safetensors.js';
import type { SafetensorsSource } from './safetensors-writer.js';
import { brief } from './validate.js';

/** The metadata's key. */
export const checksumsKey = 'elapid.checksums';

const algorithm = 'xxh128';
const hex = v.pipe(v.string(), v.regex(/^[0-9a-f]{32}$/));
const schema = v.pipe(v.string(), v.parseJson(), v.object({ algorithm: v.string(), header: hex, tensors: v.record(v.string(), hex) }));

/** `metadata` and the checksums of tensors with these data, worked out one after the other. */
export async function withChecksums(
  tensors: readonly SafetensorsSource[],
  metadata: Readonly<Record<string, string>>,
): Promise<Record<string, string>> {
  const checksums: [string, string][] = [];
  for (const tensor of tensors) checksums.push([tensor.key, await checksumOf(algorithm, tensor.bytes())]);
  const header = await headerChecksum(tensors, metadata);
  return { ...metadata, [checksumsKey]: JSON.stringify({ algorithm, header, tensors: Object.fromEntries(checksums) }) };
}

/** What the header says of tensors and metadata, whatever the order: programs that write the file anew may change that. */
async function headerChecksum(
  entries: Iterable<Pick<CheckpointEntry, 'key' | 'dtype' | 'shape'>>,
  metadata: Readonly<Record<string, string>>,
): Promise<string> {
  const lines = [
    ...[...entries].map(({ key, dtype, shape }) => JSON.stringify([key, dtype, shape])),
    ...Object.entries(metadata).map((pair) => JSON.stringify(pair)),
  ];
  return checksumOf(algorithm, new TextEncoder().encode(lines.sort().join('\n')));
}

/**
 * Reads the metadata's text of checksums.
 * @throws CheckpointError when it is damaged
 */
export function parseChecksums(text: string, file: string) {
  const key = `__metadata__.${checksumsKey}`;
  const parsed = v.safeParse(schema, text);
  if (!parsed.success) {
    throw new CheckpointError(`the checksums are ${brief(text)}; expected JSON with algorithm, header and tensors. Hint: the file is damaged.`, { file, key });
  }
  const { header, tensors, algorithm: used } = parsed.output;
  if (used !== algorithm) throw new CheckpointError(`the checksums are ${brief(used)}; expected ${algorithm}`, { file, key });
  return {
    header,
    /** The same entries with their checksums. */
    of(entries: ReadonlyMap<string, CheckpointEntry>): ReadonlyMap<string, CheckpointEntry> {
      const withChecksums = [...entries.values()].map((entry): [string, CheckpointEntry] => {
        const { offset, sizeBytes } = entry;
        const value = Object.hasOwn(tensors, entry.key) ? tensors[entry.key] : undefined;
        return [entry.key, value === undefined ? entry : { ...entry, checksum: { algorithm, value, offset, sizeBytes, of: 'the tensor' } }];
      });
      return new Map(withChecksums);
    },
  };
}

/**
 * Throws where the header's names, dtypes, shapes or metadata are not those that the file was written with.
 * @throws CheckpointError
 */
export async function verifyHeader({ entries, metadata, headerChecksum: value }: SafetensorsHeader, file: string): Promise<void> {
  if (value === undefined) return;
  for (const { key, checksum } of entries.values()) {
    if (checksum === undefined) throw new CheckpointError('the tensor is not among the checksums. Hint: the file is damaged, or another program added it.', { file, key });
  }
  expectChecksum(await headerChecksum(entries.values(), metadata), { value, algorithm, of: 'the header' }, { file, offset: 0 });
}
