/** The safetensors format, writing. */
import { ArgumentError } from '../util/errors.js';
import { withChecksums } from './safetensors-checksums.js';
import { metadataKey } from './safetensors.js';
import { storedItemSizeBytes, type StoredDType } from './stored-dtype.js';
import { brief, isSize, safeProduct } from './validate.js';

/** A tensor to be written. */
export interface SafetensorsSource {
  readonly key: string;
  readonly dtype: StoredDType;
  readonly shape: readonly number[];
  /** Size of the data in bytes: the product of `shape` times the item size. */
  readonly sizeBytes: number;
  /** Gives the data, whole or in pieces; called when its turn comes, so one tensor at a time is in memory. */
  bytes(): Uint8Array | Iterable<Uint8Array>;
}

/**
 * The pieces of a safetensors file, for `platform.writeFileAtomically`.
 * Wide dtypes come first, then keys in order, as the reference implementation writes them, so that every tensor is
 * aligned to its item size; equal input gives equal bytes.
 * @throws ArgumentError when a key comes twice or is reserved, or when a tensor's size and data disagree (the latter
 *   while the pieces are taken)
 */
export function safetensorsChunks(
  tensors: Iterable<SafetensorsSource>,
  metadata: Readonly<Record<string, string>> = {},
): Iterable<Uint8Array> {
  const ordered = [...tensors].sort(
    (a, b) => storedItemSizeBytes(b.dtype) - storedItemSizeBytes(a.dtype) || (a.key < b.key ? -1 : 1),
  );
  const header = encodeHeader(ordered, metadata);
  return (function* () {
    yield header;
    for (const tensor of ordered) yield* dataOf(tensor);
  })();
}

/**
 * The pieces of a safetensors file that holds checksums of its tensors and its header (`loadModel` and `openCheckpoint` compare
 * them with what they read); otherwise as `safetensorsChunks`. A tensor's data are asked for twice: to be hashed, since the checksums
 * stand before them, and to be written.
 */
export async function checksummedChunks(
  tensors: Iterable<SafetensorsSource>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<Iterable<Uint8Array>> {
  const sources = [...tensors];
  return safetensorsChunks(sources, await withChecksums(sources, metadata));
}

function encodeHeader(tensors: readonly SafetensorsSource[], metadata: Readonly<Record<string, string>>): Uint8Array {
  const fields = new Map<string, unknown>();
  if (Object.keys(metadata).length > 0) fields.set(metadataKey, metadata);
  let end = 0;
  for (const { key, dtype, shape, sizeBytes } of tensors) {
    if (key === metadataKey || fields.has(key)) {
      throw problem(`key '${key}'`, key === metadataKey ? 'reserved' : 'given twice', 'a name of its own per tensor');
    }
    const expected = shape.every(isSize) ? safeProduct([...shape, storedItemSizeBytes(dtype)]) : undefined;
    if (expected === undefined) throw problem(`shape of '${key}'`, brief(shape), 'whole numbers with a product below 2^53');
    if (sizeBytes !== expected) {
      throw problem(`sizeBytes of '${key}'`, String(sizeBytes), `${expected} for ${dtype} ${brief(shape)}`);
    }
    fields.set(key, { dtype, shape, data_offsets: [end, end + sizeBytes] });
    end += sizeBytes;
  }
  const json = new TextEncoder().encode(JSON.stringify(Object.fromEntries(fields)));
  // Spaces fill the header up to a multiple of 8, so that the data after it is aligned.
  const padded = Math.ceil(json.length / 8) * 8;
  const header = new Uint8Array(8 + padded).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(padded), true);
  header.set(json, 8);
  return header;
}

function* dataOf(tensor: SafetensorsSource): Generator<Uint8Array> {
  const { key, sizeBytes } = tensor;
  const data = tensor.bytes();
  let written = 0;
  for (const piece of data instanceof Uint8Array ? [data] : data) {
    written += piece.length;
    yield piece;
  }
  // Offsets are already written: other lengths would shift every later tensor. Throwing discards the temporary file.
  if (written !== sizeBytes) throw problem(`data of '${key}'`, `${written} bytes`, `${sizeBytes} bytes`);
}

function problem(argument: string, got: string, expected: string): ArgumentError {
  return new ArgumentError({ operation: 'safetensorsChunks', argument, got, expected });
}
