/**
 * Files written by torch.save since PyTorch 1.6: a zip archive with a pickle that describes the tensors (`<name>/data.pkl`) and
 * one entry of raw bytes per storage (`<name>/data/<storage>`). Tensors that share a storage share bytes of the file.
 */
import type { RandomAccessFile } from '../platform/platform.js';
import { CheckpointError } from '../util/errors.js';
import { readRange, verifyChecksum } from './checked-file.js';
import type { CheckpointEntry } from './checkpoint-entry.js';
import { readPickle, type Fail, type PickleValue } from './pickle.js';
import { isLegacyPytorch, readLegacyPytorchEntries } from './pytorch-legacy.js';
import { entriesOf, maxPickleSizeBytes, parseStorageId, Storage, torchGlobals } from './pytorch-pickle.js';
import { storedItemSizeBytes } from './stored-dtype.js';
import { brief } from './validate.js';
import { readZipDirectory, type ZipEntry } from './zip.js';

/**
 * Finds the tensors of a file written by torch.save, of any version; their bytes stay in the file. Nothing in the file is executed.
 * A training checkpoint gives the tensors of its state dict (`state_dict`, `model_state_dict`, `model` or `module`).
 * @param verify whether what is read is compared with the archive's checksums
 * @throws CheckpointError when the file is damaged, hostile, or holds more than dictionaries, numbers and tensors
 */
export async function readPytorchEntries(file: RandomAccessFile, verify = true): Promise<ReadonlyMap<string, CheckpointEntry>> {
  if (await isLegacyPytorch(file)) return readLegacyPytorchEntries(file);
  const archive = await readZipDirectory(file);
  const { pickle, folder } = findPickle(archive, file);
  if (verify) await verifyDescriptions(file, archive, `${folder}data/`);
  await refuseBigEndian(file, archive.get(`${folder}byteorder`));
  const root = readPickle(await readRange(file, pickle.offset, pickle.sizeBytes, 'the pickle', pickle.name), {
    file: file.name,
    offset: pickle.offset,
    globals: torchGlobals(file),
    loadPersistent: (id, fail) => loadStorage(id, archive, folder, fail),
  });
  return entriesOf(root, file.name, pickle.offset);
}

/** Verifies all but the storages, which are verified when they are read: the pickle, the byte order, version numbers. */
async function verifyDescriptions(file: RandomAccessFile, archive: ReadonlyMap<string, ZipEntry>, storages: string): Promise<void> {
  for (const { name, sizeBytes, checksum } of archive.values()) {
    if (checksum === undefined || name.startsWith(storages) || sizeBytes > maxPickleSizeBytes) continue;
    await verifyChecksum(file, checksum, name);
  }
}

function findPickle(
  archive: ReadonlyMap<string, ZipEntry>,
  file: RandomAccessFile,
): { pickle: ZipEntry; folder: string } {
  const [pickle, ...others] = [...archive.values()].filter(({ name }) => /^[^/]+\/data\.pkl$/.test(name));
  if (pickle === undefined || others.length > 0) {
    throw new CheckpointError(
      `the zip archive has ${pickle === undefined ? 0 : 1 + others.length} entries '<name>/data.pkl'; ` +
        'expected one. Hint: the file was not written by torch.save.',
      { file: file.name },
    );
  }
  if (pickle.sizeBytes > maxPickleSizeBytes) {
    throw new CheckpointError(
      `the pickle is ${pickle.sizeBytes} bytes long; expected at most ${maxPickleSizeBytes}`,
      { file: file.name, key: pickle.name, offset: pickle.offset },
    );
  }
  return { pickle, folder: pickle.name.slice(0, -'data.pkl'.length) };
}

/** Archives from before PyTorch 2.1 have no `byteorder` entry and are little-endian. */
async function refuseBigEndian(file: RandomAccessFile, entry: ZipEntry | undefined): Promise<void> {
  if (entry === undefined) return;
  const { name, offset } = entry;
  const bytes = await readRange(file, offset, Math.min(entry.sizeBytes, 16), 'the byte order', name);
  const order = new TextDecoder().decode(bytes);
  if (order !== 'little') {
    const location = { file: file.name, key: name, offset };
    throw new CheckpointError(`the byte order is ${brief(order)}; expected 'little'`, location);
  }
}

function loadStorage(id: PickleValue, archive: ReadonlyMap<string, ZipEntry>, folder: string, fail: Fail): Storage {
  const { key, dtype, itemCount } = parseStorageId(id, fail);
  const entry = archive.get(`${folder}data/${key}`);
  if (entry === undefined) return fail(`the zip archive lacks storage ${brief(key)}`);
  if (itemCount * storedItemSizeBytes(dtype) !== entry.sizeBytes) {
    return fail(
      `storage ${brief(key)} has ${entry.sizeBytes} bytes; expected ${itemCount} items of ${dtype}`,
    );
  }
  return new Storage(key, dtype, itemCount, entry);
}
