/**
 * The table of contents of a zip archive whose entries are stored as they are, which is how torch.save writes them:
 * every entry's bytes then lie in the file at a known offset. Source: PKWARE APPNOTE.TXT, sections 4.3 to 4.5.
 * Checksums are for those who read an entry's bytes to verify.
 */
import type { RandomAccessFile } from '../platform/platform.js';
import { CheckpointError } from '../util/errors.js';
import { readRange, readUint64, viewOf } from './checked-file.js';
import type { StoredChecksum } from './checkpoint-entry.js';

/** A file inside an archive. */
export interface ZipEntry {
  readonly name: string;
  /** Position of its first byte in the archive. */
  readonly offset: number;
  readonly sizeBytes: number;
  /** CRC-32 of its bytes; undefined where the archive says 0, which torch.save writes when it is told not to work it out. */
  readonly checksum: StoredChecksum | undefined;
}

const endSignature = 0x06054b50;
const end64LocatorSignature = 0x07064b50;
const end64Signature = 0x06064b50;
const centralSignature = 0x02014b50;
const localSignature = 0x04034b50;

const endSizeBytes = 22;
const end64LocatorSizeBytes = 20;
const end64SizeBytes = 56;
const centralSizeBytes = 46;
const localSizeBytes = 30;

/** A value in these fields that says "see the ZIP64 record". */
const none16 = 0xffff;
const none32 = 0xffffffff;

const flagEncrypted = 1 << 0;
const flagSizesFollowData = 1 << 3;
const flagUtf8Name = 1 << 11;

/** Room for a hundred thousand entries, several times what any model has. */
const maxDirectorySizeBytes = 1 << 24;
/** Local headers are read this many at a time: over HTTP each is a request. */
const localHeadersAtOnce = 32;

interface Directory {
  offset: number;
  sizeBytes: number;
  entryCount: number;
}

interface CentralRecord {
  name: string;
  flags: number;
  crc: number;
  sizeBytes: number;
  localOffset: number;
  /** Where the record itself is, for messages. */
  at: number;
}

/**
 * Reads and checks the directory of a zip archive.
 * @throws CheckpointError when it is damaged, contradicts the local headers, or holds compressed or encrypted entries
 */
export async function readZipDirectory(file: RandomAccessFile): Promise<ReadonlyMap<string, ZipEntry>> {
  const directory = await findDirectory(file);
  const bytes = await readRange(file, directory.offset, directory.sizeBytes, 'the zip directory');
  const records = parseDirectory(bytes, directory, file.name);
  const entries = new Map<string, ZipEntry>();
  for (let first = 0; first < records.length; first += localHeadersAtOnce) {
    const some = records.slice(first, first + localHeadersAtOnce);
    const located = await Promise.all(some.map((record) => locate(file, record, directory.offset)));
    for (const entry of located) entries.set(entry.name, entry);
  }
  checkOverlaps(records, entries, file.name);
  return entries;
}

/** Finds the directory from the end-of-central-directory record, which must be the last thing in the file. */
async function findDirectory(file: RandomAccessFile): Promise<Directory> {
  const endAt = file.sizeBytes - endSizeBytes;
  const end = endAt < 0 ? undefined : viewOf(await readRange(file, endAt, endSizeBytes, 'the zip end record'));
  if (end?.getUint32(0, true) !== endSignature || end.getUint16(20, true) !== 0) {
    throw new CheckpointError(
      `no zip end record in the last ${endSizeBytes} bytes. Hint: the file is truncated, has something ` +
        'appended, or is no zip archive.',
      { file: file.name, offset: Math.max(0, endAt) },
    );
  }
  if (end.getUint16(4, true) !== 0 || end.getUint16(6, true) !== 0) {
    throw new CheckpointError('the zip archive has several parts; expected one', { file: file.name, offset: endAt });
  }
  const plain = {
    entryCount: end.getUint16(10, true),
    sizeBytes: end.getUint32(12, true),
    offset: end.getUint32(16, true),
  };
  const { directory, endsAt } = (await readEnd64(file, endAt, plain)) ?? { directory: plain, endsAt: endAt };
  if (directory.offset + directory.sizeBytes !== endsAt) {
    throw new CheckpointError(
      `the zip directory is said to be at byte ${directory.offset}, ${directory.sizeBytes} bytes ` +
        `long; expected it to end at byte ${endsAt}`,
      { file: file.name, offset: endAt },
    );
  }
  if (directory.sizeBytes > maxDirectorySizeBytes) {
    throw new CheckpointError(
      `the zip directory is ${directory.sizeBytes} bytes long; expected at most ${maxDirectorySizeBytes}`,
      { file: file.name, offset: directory.offset },
    );
  }
  return directory;
}

/** The directory's place from the ZIP64 records that stand before the end record at `endAt`, if they are there. */
async function readEnd64(
  file: RandomAccessFile,
  endAt: number,
  plain: Directory,
): Promise<{ directory: Directory; endsAt: number } | undefined> {
  const locatorAt = endAt - end64LocatorSizeBytes;
  if (locatorAt < 0) return undefined;
  const locator = viewOf(await readRange(file, locatorAt, end64LocatorSizeBytes, 'the ZIP64 locator'));
  if (locator.getUint32(0, true) !== end64LocatorSignature) return undefined;
  const end64At = readUint64(locator, 8);
  if (end64At + end64SizeBytes !== locatorAt) {
    throw new CheckpointError(
      `the ZIP64 end record is said to be at byte ${end64At}; expected it right before its locator`,
      { file: file.name, offset: locatorAt },
    );
  }
  const end64 = viewOf(await readRange(file, end64At, end64SizeBytes, 'the ZIP64 end record'));
  const directory = {
    entryCount: readUint64(end64, 32),
    sizeBytes: readUint64(end64, 40),
    offset: readUint64(end64, 48),
  };
  if (
    end64.getUint32(0, true) !== end64Signature ||
    !agrees(plain.entryCount, directory.entryCount, none16) ||
    !agrees(plain.sizeBytes, directory.sizeBytes, none32) ||
    !agrees(plain.offset, directory.offset, none32)
  ) {
    throw new CheckpointError('the ZIP64 end record contradicts the zip end record', {
      file: file.name,
      offset: end64At,
    });
  }
  return { directory, endsAt: end64At };
}

function agrees(plain: number, zip64: number, none: number): boolean {
  return plain === none || plain === zip64;
}

function parseDirectory(bytes: Uint8Array, directory: Directory, file: string): CentralRecord[] {
  const view = viewOf(bytes);
  const records: CentralRecord[] = [];
  const names = new Set<string>();
  let position = 0;
  while (position < bytes.length) {
    const at = directory.offset + position;
    const fail = (problem: string, key?: string): never => {
      throw new CheckpointError(problem, { file, offset: at, ...(key === undefined ? {} : { key }) });
    };
    if (position + centralSizeBytes > bytes.length || view.getUint32(position, true) !== centralSignature) {
      return fail('a zip directory record was expected here');
    }
    const flags = view.getUint16(position + 8, true);
    const method = view.getUint16(position + 10, true);
    const nameSize = view.getUint16(position + 28, true);
    const extraSize = view.getUint16(position + 30, true);
    const commentSize = view.getUint16(position + 32, true);
    const nameEnd = position + centralSizeBytes + nameSize;
    const next = nameEnd + extraSize + commentSize;
    if (next > bytes.length) return fail('the zip directory ends inside this record');
    const name = decodeName(bytes.subarray(position + centralSizeBytes, nameEnd)) ?? fail('the name is not UTF-8');
    if ((flags & flagEncrypted) !== 0) return fail('the zip entry is encrypted', name);
    if ((flags & ~(flagSizesFollowData | flagUtf8Name)) !== 0) {
      return fail(`the zip entry has flags 0x${flags.toString(16)}; expected only 0x8 and 0x800`, name);
    }
    if (method !== 0) {
      return fail(
        `the zip entry is compressed (method ${method}); expected stored bytes. Hint: torch.save stores; ` +
          'was the file packed again by another program?',
        name,
      );
    }
    const sizes64 = zip64Fields(view, nameEnd, nameEnd + extraSize);
    // The ZIP64 field holds, in this order, those of the three numbers that do not fit their 32-bit field.
    const wide = (at32: number): number => {
      const value = view.getUint32(position + at32, true);
      return value === none32 ? (sizes64.shift() ?? fail('the zip entry lacks its ZIP64 sizes', name)) : value;
    };
    const sizeBytes = wide(24);
    const storedSizeBytes = wide(20);
    const localOffset = wide(42);
    if (storedSizeBytes !== sizeBytes) {
      return fail(`the zip entry stores ${sizeBytes} bytes in ${storedSizeBytes}; expected as many`, name);
    }
    if (names.has(name)) return fail('the zip archive has two entries of this name', name);
    names.add(name);
    records.push({ name, flags, crc: view.getUint32(position + 16, true), sizeBytes, localOffset, at });
    position = next;
  }
  if (records.length !== directory.entryCount) {
    throw new CheckpointError(
      `the zip directory has ${records.length} entries; expected ${directory.entryCount}`,
      { file, offset: directory.offset },
    );
  }
  return records;
}

/** The 64-bit numbers of the ZIP64 extra field (id 1) among the extra fields in [begin, end). */
function zip64Fields(view: DataView, begin: number, end: number): number[] {
  for (let position = begin; position + 4 <= end; ) {
    const id = view.getUint16(position, true);
    const fieldEnd = position + 4 + view.getUint16(position + 2, true);
    if (id === 1 && fieldEnd <= end) {
      const numbers: number[] = [];
      for (let i = position + 4; i + 8 <= fieldEnd; i += 8) numbers.push(readUint64(view, i));
      return numbers;
    }
    position = fieldEnd;
  }
  return [];
}

/** Where an entry's bytes start is only in its local header, which must agree with the directory. */
async function locate(file: RandomAccessFile, record: CentralRecord, directoryOffset: number): Promise<ZipEntry> {
  const { name, flags, crc, sizeBytes, localOffset } = record;
  const fail = (problem: string, offset: number): never => {
    throw new CheckpointError(problem, { file: file.name, key: name, offset });
  };
  const nameSize = new TextEncoder().encode(name).length;
  const headerSize = localSizeBytes + nameSize;
  if (localOffset + headerSize > directoryOffset) {
    const problem = `its local header is said to be at byte ${localOffset}; expected it before the directory`;
    return fail(problem, record.at);
  }
  const header = await readRange(file, localOffset, headerSize, 'a zip local header', name);
  const view = viewOf(header);
  if (view.getUint32(0, true) !== localSignature) return fail('a zip local header was expected here', localOffset);
  const sizesFollow = (flags & flagSizesFollowData) !== 0;
  const sizeAgrees = [18, 22].every((at) => {
    const size = view.getUint32(at, true);
    return size === sizeBytes || size === none32 || (sizesFollow && size === 0);
  });
  if (
    view.getUint16(6, true) !== flags ||
    view.getUint16(8, true) !== 0 ||
    !(view.getUint32(14, true) === crc || (sizesFollow && view.getUint32(14, true) === 0)) ||
    view.getUint16(26, true) !== nameSize ||
    decodeName(header.subarray(localSizeBytes)) !== name ||
    !sizeAgrees
  ) {
    return fail('the zip local header contradicts the directory', localOffset);
  }
  const offset = localOffset + headerSize + view.getUint16(28, true);
  if (offset + sizeBytes > directoryOffset) {
    return fail(
      `the zip entry's ${sizeBytes} bytes end at byte ${offset + sizeBytes}; expected at most ` +
        `${directoryOffset}, where the directory starts`,
      record.at,
    );
  }
  const checksum: StoredChecksum = { algorithm: 'crc32', value: crc.toString(16).padStart(8, '0'), offset, sizeBytes, of: `the zip entry ${name}` };
  return { name, offset, sizeBytes, checksum: crc === 0 ? undefined : checksum };
}

function checkOverlaps(records: readonly CentralRecord[], entries: ReadonlyMap<string, ZipEntry>, file: string): void {
  let usedUntil = 0;
  for (const { name, localOffset, at } of [...records].sort((a, b) => a.localOffset - b.localOffset)) {
    if (localOffset < usedUntil) {
      throw new CheckpointError(
        `the zip entry starts at byte ${localOffset}, inside another that ends at ${usedUntil}`,
        { file, key: name, offset: at },
      );
    }
    const entry = entries.get(name);
    if (entry !== undefined) usedUntil = entry.offset + entry.sizeBytes;
  }
}

function decodeName(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}
