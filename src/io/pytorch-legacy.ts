/**
 * Files written by torch.save before PyTorch 1.6, and since then with `_use_new_zipfile_serialization=False`: one pickle after the
 * other (a magic number, the format's version, facts of the system, the state dict, the keys of the storages), then the storages
 * in the order of those keys, each a count of 8 bytes and its numbers. Source: `_legacy_save` in PyTorch's torch/serialization.py.
 * The format has no checksums.
 */
import type { RandomAccessFile } from '../platform/platform.js';
import { CheckpointError } from '../util/errors.js';
import { readRange, readUint64, viewOf } from './checked-file.js';
import type { CheckpointEntry } from './checkpoint-entry.js';
import { describePickled, PickleObject, readFirstPickle, type Fail, type PickleValue } from './pickle.js';
import { entriesOf, maxPickleSizeBytes, parseStorageId, Storage, torchGlobals } from './pytorch-pickle.js';
import { storedItemSizeBytes } from './stored-dtype.js';
import { brief } from './validate.js';

/** The pickle of 0x1950a86a20f9469cfc6c. */
const magic = [0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, 0x2e];
const formatVersion = 1001;

/** Whether a file begins as torch.save wrote it before PyTorch 1.6. */
export async function isLegacyPytorch(file: RandomAccessFile): Promise<boolean> {
  if (file.sizeBytes < magic.length) return false;
  const start = await readRange(file, 0, magic.length, 'the start of the file');
  return magic.every((byte, i) => start[i] === byte);
}

/**
 * Finds the tensors of such a file.
 * @throws CheckpointError when the file is damaged, hostile, or holds more than dictionaries, numbers and tensors
 */
export async function readLegacyPytorchEntries(file: RandomAccessFile): Promise<ReadonlyMap<string, CheckpointEntry>> {
  const bytes = await readRange(file, 0, Math.min(file.sizeBytes, maxPickleSizeBytes), 'the pickles');
  const storages = new Map<string, Storage>();
  let position = magic.length;
  const next = (globals = false): { value: PickleValue; offset: number } => {
    const offset = position;
    const { value, sizeBytes } = readFirstPickle(bytes.subarray(offset), {
      file: file.name,
      offset,
      globals: globals ? torchGlobals(file) : [],
      loadPersistent: (id, fail) => (globals ? loadStorage(id, storages, fail) : fail('a persistent id outside of the state dict')),
    });
    position += sizeBytes;
    return { value, offset };
  };
  const fail = (problem: string, offset: number): never => {
    throw new CheckpointError(problem, { file: file.name, offset });
  };
  const version = next();
  if (version.value !== formatVersion) {
    return fail(`the format's version is ${describePickled(version.value)}; expected ${formatVersion}`, version.offset);
  }
  const system = next();
  if (!(system.value instanceof Map) || system.value.get('little_endian') !== true) {
    return fail('the file was not written on a little-endian machine; expected little_endian: True', system.offset);
  }
  const root = next(true);
  const keys = next();
  if (!Array.isArray(keys.value)) return fail(`the storages' keys are ${describePickled(keys.value)}; expected a list`, keys.offset);
  await placeStorages(file, keys.value, storages, position);
  return entriesOf(root.value, file.name, root.offset);
}

/** The storage of a persistent id ('storage', type, key, device, item count, view); where it lies is known later. */
function loadStorage(id: PickleValue, storages: Map<string, Storage>, fail: Fail): Storage {
  const { key, dtype, itemCount, more } = parseStorageId(id, fail);
  if (more.some((view) => view !== null)) return fail(`storage ${brief(key)} is a view of another, as PyTorch wrote before 0.4; expected None`);
  const storage = storages.get(key) ?? new Storage(key, dtype, itemCount, undefined);
  if (storage.dtype !== dtype || storage.itemCount !== itemCount) {
    return fail(`storage ${brief(key)} is ${itemCount} items of ${dtype} here and ${storage.itemCount} of ${storage.dtype} elsewhere`);
  }
  storages.set(key, storage);
  return storage;
}

/** Walks through the storages behind the pickles, which must fill the file. */
async function placeStorages(file: RandomAccessFile, keys: readonly PickleValue[], storages: ReadonlyMap<string, Storage>, start: number): Promise<void> {
  let position = start;
  for (const key of keys) {
    const fail = (problem: string): never => {
      throw new CheckpointError(problem, { file: file.name, offset: position });
    };
    const storage = typeof key === 'string' ? storages.get(key) : undefined;
    if (storage === undefined || storage.place !== undefined) {
      const name = key instanceof PickleObject ? describePickled(key) : brief(key);
      return fail(`storage ${name} is listed ${storage === undefined ? 'but belongs to no tensor' : 'twice'}`);
    }
    const { dtype, itemCount } = storage;
    const stored = readUint64(viewOf(await readRange(file, position, 8, 'the size of a storage')), 0);
    if (stored !== itemCount) fail(`storage ${brief(storage.key)} has ${stored} items; expected ${itemCount}, as the pickle says`);
    const sizeBytes = itemCount * storedItemSizeBytes(dtype);
    if (position + 8 + sizeBytes > file.sizeBytes) {
      fail(`the file ends inside storage ${brief(storage.key)} of ${sizeBytes} bytes. Hint: it may be an incomplete download.`);
    }
    storage.place = { offset: position + 8 };
    position += 8 + sizeBytes;
  }
  if (position !== file.sizeBytes) {
    const problem = `${file.sizeBytes - position} bytes after the last storage; expected the file to end here`;
    throw new CheckpointError(problem, { file: file.name, offset: position });
  }
}
