/** Builders of checkpoint files, right and wrong ones, for the tests of this folder. */
import { crc32 } from 'node:zlib';
import { expect } from 'vitest';
import type { RandomAccessFile } from '../../src/platform/platform.js';
import { CheckpointError } from '../../src/util/errors.js';

export function concat(...parts: (Uint8Array | readonly number[] | string)[]): Uint8Array {
  const arrays = parts.map((part) => (typeof part === 'string' ? new TextEncoder().encode(part) : Uint8Array.from(part)));
  const all = new Uint8Array(arrays.reduce((sum, array) => sum + array.length, 0));
  let position = 0;
  for (const array of arrays) {
    all.set(array, position);
    position += array.length;
  }
  return all;
}

export function uint16(value: number): number[] {
  return [value & 0xff, (value >>> 8) & 0xff];
}

export function uint32(value: number): number[] {
  return [...uint16(value), ...uint16(value >>> 16)];
}

export function uint64(value: bigint | number): number[] {
  const bits = BigInt(value);
  return Array.from({ length: 8 }, (_, i) => Number((bits >> BigInt(8 * i)) & 0xffn));
}

/** A file in memory. Like the real one it rejects reads outside, but with an error no loader may let through. */
export function memoryFile(bytes: Uint8Array, name = 'memory'): RandomAccessFile {
  return {
    name,
    sizeBytes: bytes.length,
    read: (offset, length) =>
      offset >= 0 && length >= 0 && offset + length <= bytes.length
        ? Promise.resolve(bytes.slice(offset, offset + length))
        : Promise.reject(new RangeError('read outside the file')),
    changed: () => Promise.resolve(undefined),
    close: () => Promise.resolve(),
  };
}

/** The error that `action` throws or rejects with, which must be a CheckpointError whose message names its location. */
export async function checkpointErrorOf(action: () => unknown): Promise<CheckpointError> {
  let value: unknown;
  try {
    value = await action();
  } catch (error) {
    expect(error).toBeInstanceOf(CheckpointError);
    if (!(error instanceof CheckpointError)) throw error;
    expect(error.message).toContain(error.file);
    if (error.key !== undefined) expect(error.message).toContain(`key '${error.key}'`);
    if (error.offset !== undefined) expect(error.message).toContain(`byte ${error.offset}`);
    return error;
  }
  throw new Error(`expected a CheckpointError, got ${String(value)}`);
}

/** A safetensors file from a header text and data, without any check. */
export function rawSafetensors(header: string | Uint8Array, data: Uint8Array | number): Uint8Array {
  const json = typeof header === 'string' ? new TextEncoder().encode(header) : header;
  return concat(uint64(json.length), json, typeof data === 'number' ? new Uint8Array(data) : data);
}

export interface ZipPart {
  name: string;
  data: Uint8Array;
  /** Overrides of what the directory says. */
  directory?: Partial<{ name: string; flags: number; method: number; crc: number; sizeBytes: number; storedSizeBytes: number; offset: number }>;
  /** Overrides of what the local header says. */
  local?: Partial<{ name: string; flags: number; method: number; crc: number; sizeBytes: number; extra: number[] }>;
}

/** A zip archive as Python's zipfile writes it, or with ZIP64 records as PyTorch does. */
export function zip(parts: readonly ZipPart[], options: { zip64?: boolean; entryCount?: number } = {}): Uint8Array {
  const body: Uint8Array[] = [];
  const directory: Uint8Array[] = [];
  let offset = 0;
  for (const { name, data, directory: central = {}, local = {} } of parts) {
    const localName = new TextEncoder().encode(local.name ?? name);
    const size = local.sizeBytes ?? data.length;
    const extra = local.extra ?? [];
    const crc = central.crc ?? crc32(data);
    const header = concat(
      uint32(0x04034b50), uint16(0), uint16(local.flags ?? central.flags ?? 0), uint16(local.method ?? central.method ?? 0),
      uint32(0), uint32(local.crc ?? crc), uint32(size), uint32(size), uint16(localName.length), uint16(extra.length), localName, extra,
    );
    const centralName = new TextEncoder().encode(central.name ?? name);
    const [sizeBytes, storedSizeBytes] = [central.sizeBytes ?? data.length, central.storedSizeBytes ?? data.length];
    const at = central.offset ?? offset;
    const wide = options.zip64 ?? false;
    const extra64 = wide ? [...uint16(1), ...uint16(24), ...[sizeBytes, storedSizeBytes, at].flatMap(uint64)] : [];
    directory.push(
      concat(
        uint32(0x02014b50), uint16(0), uint16(0), uint16(central.flags ?? 0), uint16(central.method ?? 0), uint32(0), uint32(crc),
        ...(wide ? [uint32(0xffffffff), uint32(0xffffffff)] : [uint32(storedSizeBytes), uint32(sizeBytes)]),
        uint16(centralName.length), uint16(extra64.length), uint16(0), uint16(0), uint16(0), uint32(0),
        uint32(wide ? 0xffffffff : at), centralName, extra64,
      ),
    );
    body.push(header, data);
    offset += header.length + data.length;
  }
  const records = concat(...directory);
  const count = options.entryCount ?? parts.length;
  const end64 = concat(
    uint32(0x06064b50), uint64(44), uint16(0), uint16(0), uint32(0), uint32(0),
    uint64(count), uint64(count), uint64(records.length), uint64(offset),
    uint32(0x07064b50), uint32(0), uint64(offset + records.length), uint32(1),
  );
  const end = concat(
    uint32(0x06054b50), uint16(0), uint16(0), uint16(count), uint16(count), uint32(records.length), uint32(offset), uint16(0),
  );
  return concat(...body, records, options.zip64 === true ? end64 : [], end);
}

/** Pickle opcodes, by what they make. */
export const pickled = {
  text: (value: string) => concat('X', uint32(new TextEncoder().encode(value).length), value),
  int: (value: number) => concat('J', uint32(value)),
  long: (value: bigint) => concat([0x8a, 8], uint64(value)),
  global: (module: string, name: string) => concat(`c${module}\n${name}\n`),
  tuple: (...items: Uint8Array[]) => concat('(', ...items, 't'),
  dict: (...pairs: [string, Uint8Array][]) =>
    concat('}(', ...pairs.flatMap(([key, value]) => [pickled.text(key), value]), 'u'),
  /** @param more what the format before PyTorch 1.6 adds: a view, usually None */
  storage: (key: string, itemCount: Uint8Array | number, type = 'FloatStorage', ...more: Uint8Array[]) =>
    concat(
      pickled.tuple(
        pickled.text('storage'),
        pickled.global('torch', type),
        pickled.text(key),
        pickled.text('cpu'),
        typeof itemCount === 'number' ? pickled.int(itemCount) : itemCount,
        ...more,
      ),
      'Q',
    ),
  tensor: (storage: Uint8Array, start: number, shape: readonly number[], strides: readonly number[]) =>
    concat(
      pickled.global('torch._utils', '_rebuild_tensor_v2'),
      pickled.tuple(
        storage,
        pickled.int(start),
        pickled.tuple(...shape.map(pickled.int)),
        pickled.tuple(...strides.map(pickled.int)),
        concat([0x89]),
        concat(pickled.global('collections', 'OrderedDict'), ')R'),
      ),
      'R',
    ),
  /** A whole pickle. */
  file: (...content: Uint8Array[]) => concat([0x80, 2], ...content, '.'),
};

/** What torch.save wrote before PyTorch 1.6: pickles, then storages. Overrides stand for what a damaged file has instead. */
export function legacyTorchFile(
  stateDict: Uint8Array,
  storages: Record<string, { data: Uint8Array; itemCount: number }>,
  { version = pickled.int(1001), system = pickled.dict(['little_endian', concat([0x88])]), keys = Object.keys(storages) } = {},
): Uint8Array {
  return concat(
    [0x80, 2, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19], '.',
    pickled.file(version), pickled.file(system), pickled.file(stateDict),
    pickled.file(concat('](', ...keys.map(pickled.text), 'e')),
    ...Object.values(storages).flatMap(({ data, itemCount }) => [uint64(itemCount), data]),
  );
}

/** A torch.save archive with this pickle and these storages. */
export function torchArchive(pickle: Uint8Array, storages: Record<string, Uint8Array>, byteOrder = 'little'): Uint8Array {
  return zip([
    { name: 'a/data.pkl', data: pickle },
    { name: 'a/byteorder', data: concat(byteOrder) },
    ...Object.entries(storages).map(([key, data]) => ({ name: `a/data/${key}`, data })),
  ]);
}
