/**
 * The safetensors format, reading: an 8-byte header length, a JSON header, then the tensors' bytes without gaps.
 * Source: https://github.com/huggingface/safetensors (format description). As strict as the reference
 * implementation, except that the dtypes this package cannot compute with are refused.
 */
import type { RandomAccessFile } from '../platform/platform.js';
import { checksumOf } from '../util/checksum.js';
import { CheckpointError } from '../util/errors.js';
import { expectChecksum, readRange, readUint64, viewOf } from './checked-file.js';
import type { CheckpointEntry } from './checkpoint-entry.js';
import { parseJsonObject, type JsonObject } from './json.js';
import { checksumsKey, parseChecksums, verifyHeader } from './safetensors-checksums.js';
import { isStoredDType, storedDTypes, storedItemSizeBytes, type StoredDType } from './stored-dtype.js';
import { brief, isSize, safeProduct } from './validate.js';

/** The reference implementation's limit on the JSON header. */
const maxHeaderSizeBytes = 100_000_000;
const prefixSizeBytes = 8;

/** The reserved header key that holds text about the file instead of a tensor. */
export const metadataKey = '__metadata__';

/** What a safetensors header says. */
export interface SafetensorsHeader {
  /** In the order of the header. */
  readonly entries: ReadonlyMap<string, CheckpointEntry>;
  /** Without the checksums, which are with the entries. */
  readonly metadata: Readonly<Record<string, string>>;
  /** The checksum of the header, where the file has one. */
  readonly headerChecksum?: string;
}

/** A tensor in memory, in stored form. */
export interface StoredTensor {
  readonly dtype: StoredDType;
  readonly shape: readonly number[];
  /** Shares memory with the buffer it was parsed from. */
  readonly bytes: Uint8Array;
}

/** A parsed safetensors buffer. */
export interface SafetensorsContent {
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  /** Without the checksums of tensors. */
  readonly metadata: Readonly<Record<string, string>>;
}

/**
 * Reads and checks the header of a safetensors file; the tensors' bytes stay in the file.
 * @param verify whether to compare it with its checksum, where the file has one
 * @throws CheckpointError when anything in it breaks the format
 */
export async function readSafetensorsHeader(file: RandomAccessFile, verify = true): Promise<SafetensorsHeader> {
  const prefix = await readRange(file, 0, Math.min(prefixSizeBytes, file.sizeBytes), 'the header length');
  const headerSizeBytes = checkHeaderSize(prefix, file.sizeBytes, file.name);
  const bytes = await readRange(file, prefixSizeBytes, headerSizeBytes, 'the header');
  const header = parseHeader(bytes, file.sizeBytes, file.name);
  if (verify) await verifyHeader(header, file.name);
  return header;
}

/**
 * Parses a whole safetensors file that is already in memory. Checksums are not verified, which takes time: `verifySafetensors` does.
 * @param name what to call the buffer in error messages
 * @throws CheckpointError when anything in it breaks the format
 */
export function parseSafetensors(bytes: Uint8Array, name = '(buffer)'): SafetensorsContent {
  const { entries, metadata } = parseWhole(bytes, name);
  const tensors = new Map<string, StoredTensor>();
  for (const { key, dtype, shape, offset, sizeBytes } of entries.values()) {
    tensors.set(key, { dtype, shape, bytes: bytes.subarray(offset, offset + sizeBytes) });
  }
  return { tensors, metadata };
}

/**
 * Compares a safetensors file in memory with the checksums that it holds; one without checksums passes.
 * @throws CheckpointError naming the tensor that is damaged, or as `parseSafetensors`
 */
export async function verifySafetensors(bytes: Uint8Array, name = '(buffer)'): Promise<void> {
  const header = parseWhole(bytes, name);
  await verifyHeader(header, name);
  for (const { key, offset, sizeBytes, checksum } of header.entries.values()) {
    if (checksum === undefined) continue;
    expectChecksum(await checksumOf(checksum.algorithm, bytes.subarray(offset, offset + sizeBytes)), checksum, { file: name, key, offset });
  }
}

function parseWhole(bytes: Uint8Array, name: string): SafetensorsHeader {
  const headerSizeBytes = checkHeaderSize(bytes.subarray(0, prefixSizeBytes), bytes.length, name);
  return parseHeader(bytes.subarray(prefixSizeBytes, prefixSizeBytes + headerSizeBytes), bytes.length, name);
}

function checkHeaderSize(prefix: Uint8Array, fileSizeBytes: number, file: string): number {
  if (prefix.length < prefixSizeBytes) {
    throw new CheckpointError(
      `the file ends inside the header length; expected at least ${prefixSizeBytes} bytes, got ` +
        String(fileSizeBytes),
      { file, offset: 0 },
    );
  }
  const sizeBytes = readUint64(viewOf(prefix), 0);
  const limit = Math.min(maxHeaderSizeBytes, fileSizeBytes - prefixSizeBytes);
  if (sizeBytes > limit) {
    throw new CheckpointError(
      `the header length is ${sizeBytes} bytes; expected at most ${limit} (the file has ` +
        `${fileSizeBytes}). Hint: the file is truncated or is not a safetensors file.`,
      { file, offset: 0 },
    );
  }
  return sizeBytes;
}

function parseHeader(header: Uint8Array, fileSizeBytes: number, file: string): SafetensorsHeader {
  if (header[0] !== 0x7b) {
    throw new CheckpointError("the header does not start with '{'. Hint: the file is not a safetensors file.", {
      file,
      offset: prefixSizeBytes,
    });
  }
  const json = parseJsonObject(header, file, { offset: prefixSizeBytes });
  const dataStart = prefixSizeBytes + header.length;
  const entries = new Map<string, CheckpointEntry>();
  let metadata: Record<string, string> = {};
  for (const [key, value] of Object.entries(json.value)) {
    if (key === metadataKey) metadata = parseMetadata(value, json, file);
    else entries.set(key, parseEntry(key, value, dataStart, json, file));
  }
  checkCoverage(entries, dataStart, fileSizeBytes, json, file);
  const { [checksumsKey]: text, ...others } = metadata;
  if (text === undefined) return { entries, metadata };
  const checksums = parseChecksums(text, file);
  return { entries: checksums.of(entries), metadata: others, headerChecksum: checksums.header };
}

function parseMetadata(value: unknown, json: JsonObject, file: string): Record<string, string> {
  const fail = (got: string): never => {
    throw new CheckpointError(`the metadata is ${got}; expected an object of strings`, {
      file,
      key: metadataKey,
      offset: json.offsetOf(metadataKey),
    });
  };
  // The reference implementation reads null as no metadata.
  if (value === null) return {};
  if (typeof value !== 'object' || Array.isArray(value)) return fail(brief(value));
  const pairs = Object.entries(value as Record<string, unknown>).map(([name, text]): [string, string] =>
    typeof text === 'string' ? [name, text] : fail(`${brief(text)} at '${name}'`),
  );
  return Object.fromEntries(pairs);
}

function parseEntry(key: string, value: unknown, dataStart: number, json: JsonObject, file: string): CheckpointEntry {
  const fail = (what: string, got: unknown, expected: string): never => {
    throw new CheckpointError(`${what} is ${typeof got === 'string' ? got : brief(got)}; expected ${expected}`, {
      file,
      key,
      offset: json.offsetOf(key),
    });
  };
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return fail('the header entry', brief(value), 'an object with dtype, shape and data_offsets');
  }
  const { dtype, shape, data_offsets: range } = value as Record<string, unknown>;
  if (!isStoredDType(dtype)) return fail('dtype', brief(dtype), `one of ${storedDTypes.join(', ')}`);
  if (!isSizeArray(shape)) return fail('shape', shape, 'an array of whole numbers from 0 to 2^53 - 1');
  if (!isSizeArray(range)) return fail('data_offsets', range, 'an array of two whole numbers from 0 to 2^53 - 1');
  const [begin, end, ...rest] = range;
  if (begin === undefined || end === undefined || rest.length > 0) return fail('data_offsets', range, 'two numbers');
  if (begin > end) return fail('data_offsets', range, 'the begin not to be after the end');
  const sizeBytes = safeProduct([...shape, storedItemSizeBytes(dtype)]);
  if (sizeBytes === undefined) return fail('shape', shape, 'a tensor of fewer than 2^53 bytes');
  if (end - begin !== sizeBytes) {
    return fail('data_offsets', range, `a range of ${sizeBytes} bytes for ${dtype} ${brief(shape)}`);
  }
  return { key, dtype, shape, file, offset: dataStart + begin, sizeBytes };
}

function isSizeArray(value: unknown): value is number[] {
  return Array.isArray(value) && value.every(isSize);
}

/** The tensors must cover the bytes after the header exactly: no overlap, no hole, nothing missing, nothing left. */
function checkCoverage(
  entries: ReadonlyMap<string, CheckpointEntry>,
  dataStart: number,
  fileSizeBytes: number,
  json: JsonObject,
  file: string,
): void {
  const inFileOrder = [...entries.values()].sort((a, b) => a.offset - b.offset || a.sizeBytes - b.sizeBytes);
  let covered = dataStart;
  for (const { key, offset, sizeBytes } of inFileOrder) {
    const problem =
      offset < covered
        ? `the tensor's data starts at byte ${offset}, inside another tensor that ends at ${covered}`
        : offset > covered
          ? `bytes ${covered} to ${offset} before the tensor's data belong to no tensor`
          : offset + sizeBytes > fileSizeBytes
            ? `the tensor's data ends at byte ${offset + sizeBytes}; expected at most the file's ` +
              `${fileSizeBytes} bytes. Hint: it may be an incomplete download.`
            : undefined;
    if (problem !== undefined) throw new CheckpointError(problem, { file, key, offset: json.offsetOf(key) });
    covered = offset + sizeBytes;
  }
  if (covered !== fileSizeBytes) {
    throw new CheckpointError(
      `${fileSizeBytes - covered} bytes after the last tensor; expected the file to end here`,
      { file, offset: covered },
    );
  }
}
