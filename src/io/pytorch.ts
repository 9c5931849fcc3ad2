/**
 * Files written by torch.save: a zip archive with a pickle that describes the tensors (`<name>/data.pkl`) and one
 * entry of raw bytes per storage (`<name>/data/<storage>`). Tensors that share a storage share bytes of the file.
 */
import type { RandomAccessFile } from '../platform/platform.js';
import { CheckpointError } from '../util/errors.js';
import { readRange } from './checked-file.js';
import type { CheckpointEntry } from './checkpoint-entry.js';
import {
  describePickled,
  PickleGlobal,
  PickleObject,
  PickleTuple,
  readPickle,
  type Fail,
  type PickleDict,
  type PickleValue,
} from './pickle.js';
import { storedItemSizeBytes, type StoredDType } from './stored-dtype.js';
import { brief, isSize, safeProduct } from './validate.js';
import { readZipDirectory, type ZipEntry } from './zip.js';

const maxPickleSizeBytes = 1 << 25;

/** How the pickle names the element types of storages. */
const storageDTypes: Readonly<Record<string, StoredDType>> = {
  'torch.DoubleStorage': 'F64',
  'torch.FloatStorage': 'F32',
  'torch.HalfStorage': 'F16',
  'torch.BFloat16Storage': 'BF16',
  'torch.LongStorage': 'I64',
  'torch.IntStorage': 'I32',
  'torch.ShortStorage': 'I16',
  'torch.CharStorage': 'I8',
  'torch.ByteStorage': 'U8',
  'torch.BoolStorage': 'BOOL',
};

/** Where the weights are in a training checkpoint, by the habits of PyTorch programs. */
const stateDictKeys = ['state_dict', 'model_state_dict', 'model', 'module'];
const maxStateDictDepth = 4;

/** A storage: a run of numbers of one type in a zip entry. */
class Storage extends PickleObject {
  readonly kind = 'a storage';
  constructor(
    readonly dtype: StoredDType,
    /** Position of its first byte in the file. */
    readonly offset: number,
    readonly itemCount: number,
  ) {
    super();
  }
}

/** A tensor: a shape laid over a part of a storage. */
class Tensor extends PickleObject {
  readonly kind = 'a tensor';
  constructor(
    readonly dtype: StoredDType,
    readonly shape: readonly number[],
    readonly offset: number,
    readonly sizeBytes: number,
  ) {
    super();
  }
}

/**
 * Finds the tensors of a file written by torch.save; their bytes stay in the file. Nothing in the file is executed.
 * A training checkpoint gives the tensors of its state dict (`state_dict`, `model_state_dict`, `model` or `module`).
 * @throws CheckpointError when the file is damaged, hostile, or holds more than dictionaries, numbers and tensors
 */
export async function readPytorchEntries(file: RandomAccessFile): Promise<ReadonlyMap<string, CheckpointEntry>> {
  await refuseLegacyFormat(file);
  const archive = await readZipDirectory(file);
  const { pickle, folder } = findPickle(archive, file);
  await refuseBigEndian(file, archive.get(`${folder}byteorder`));
  const root = readPickle(await readRange(file, pickle.offset, pickle.sizeBytes, 'the pickle', pickle.name), {
    file: file.name,
    offset: pickle.offset,
    globals,
    loadPersistent: (id, fail) => loadStorage(id, archive, folder, fail),
  });
  const entries = new Map<string, CheckpointEntry>();
  for (const [key, value] of findStateDict(root, file.name, pickle.offset)) {
    if (!(value instanceof Tensor)) continue; // step counters, hyperparameters and the like beside the weights
    const { dtype, shape, offset, sizeBytes } = value;
    if (typeof key !== 'string') {
      const location = { file: file.name, key: String(key), offset };
      throw new CheckpointError('a tensor has a number for a name; expected a string', location);
    }
    entries.set(key, { key, dtype, shape, file: file.name, offset, sizeBytes });
  }
  return entries;
}

/** Before PyTorch 1.6 torch.save wrote bare pickles, whose first is this magic number. */
async function refuseLegacyFormat(file: RandomAccessFile): Promise<void> {
  const magic = [0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
  if (file.sizeBytes < magic.length) return;
  const start = await readRange(file, 0, magic.length, 'the start of the file');
  if (magic.every((byte, i) => start[i] === byte)) {
    throw new CheckpointError(
      'the file has the format of torch.save before PyTorch 1.6; expected a zip archive. Hint: convert it once in ' +
        'Python with torch.save(torch.load(path, weights_only=True), path).',
      { file: file.name, offset: 0 },
    );
  }
}

function findPickle(
  archive: ReadonlyMap<string, ZipEntry>,
  file: RandomAccessFile,
): { pickle: ZipEntry; folder: string } {
  const [pickle, ...others] = [...archive.values()].filter(({ name }) => /^[^/]+\/data\.pkl$/.test(name));
  if (pickle === undefined || others.length > 0) {
    throw new CheckpointError(
      `the zip archive has ${String(pickle === undefined ? 0 : 1 + others.length)} entries '<name>/data.pkl'; ` +
        'expected one. Hint: the file was not written by torch.save.',
      { file: file.name },
    );
  }
  if (pickle.sizeBytes > maxPickleSizeBytes) {
    throw new CheckpointError(
      `the pickle is ${String(pickle.sizeBytes)} bytes long; expected at most ${String(maxPickleSizeBytes)}`,
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

/** Resolves the persistent id ('storage', type, key, device, item count). */
function loadStorage(id: PickleValue, archive: ReadonlyMap<string, ZipEntry>, folder: string, fail: Fail): Storage {
  const [tag, type, key, , itemCount] = id instanceof PickleTuple ? id.items : [];
  const dtype = type instanceof PickleGlobal ? storageDTypes[type.name] : undefined;
  if (tag !== 'storage' || dtype === undefined || typeof key !== 'string' || !isSize(itemCount)) {
    return fail("a persistent id is not ('storage', storage type, key, device, item count)");
  }
  const entry = archive.get(`${folder}data/${key}`);
  if (entry === undefined) return fail(`the zip archive lacks storage ${brief(key)}`);
  if (itemCount * storedItemSizeBytes(dtype) !== entry.sizeBytes) {
    return fail(
      `storage ${brief(key)} has ${String(entry.sizeBytes)} bytes; expected ${String(itemCount)} items of ${dtype}`,
    );
  }
  return new Storage(dtype, entry.offset, itemCount);
}

/** torch._utils._rebuild_tensor_v2(storage, storage_offset, size, stride, requires_grad, backward_hooks, …) */
function rebuildTensor(args: readonly PickleValue[], fail: Fail): Tensor {
  const [storage, start, sizeTuple, strideTuple] = args;
  const shape = sizeTuple instanceof PickleTuple ? sizeTuple.items : [];
  const strides = strideTuple instanceof PickleTuple ? strideTuple.items : [];
  if (
    !(storage instanceof Storage) ||
    !isSize(start) ||
    !(sizeTuple instanceof PickleTuple) ||
    !(strideTuple instanceof PickleTuple) ||
    !shape.every(isSize) ||
    !strides.every(isSize) ||
    shape.length !== strides.length
  ) {
    return fail(
      `_rebuild_tensor_v2 is called with (${args.slice(0, 4).map(describePickled).join(', ')}); expected ` +
        '(storage, storage offset, size, stride) with sizes from 0 to 2^53 - 1',
    );
  }
  const itemCount = safeProduct(shape);
  if (itemCount === undefined) return fail(`a tensor has shape ${brief(shape)}; expected fewer than 2^53 items`);
  if (!isContiguous(shape, strides)) {
    return fail(
      `a tensor has shape ${brief(shape)} and strides ${brief(strides)}; expected it row by row. Hint: call ` +
        '.contiguous() on it before torch.save.',
    );
  }
  if (start + itemCount > storage.itemCount) {
    return fail(
      `a tensor has ${String(itemCount)} items from item ${String(start)} on; expected it inside its storage of ` +
        `${String(storage.itemCount)} items`,
    );
  }
  const itemSize = storedItemSizeBytes(storage.dtype);
  return new Tensor(storage.dtype, shape, storage.offset + start * itemSize, itemCount * itemSize);
}

/** Whether items lie row by row without gaps. As in PyTorch, strides along sizes 0 and 1 say nothing. */
function isContiguous(shape: readonly number[], strides: readonly number[]): boolean {
  if (shape.includes(0)) return true;
  let expected = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    const size = shape[axis] ?? 1;
    if (size !== 1 && strides[axis] !== expected) return false;
    expected *= size;
  }
  return true;
}

const globals: readonly PickleGlobal[] = [
  new PickleGlobal('torch._utils._rebuild_tensor_v2', rebuildTensor),
  // _rebuild_parameter(tensor, requires_grad, backward_hooks): for us a parameter is its tensor.
  new PickleGlobal('torch._utils._rebuild_parameter', ([tensor], fail) =>
    tensor instanceof Tensor ? tensor : fail(`_rebuild_parameter is called with ${describePickled(tensor)}, not a tensor`),
  ),
  new PickleGlobal('collections.OrderedDict', (args, fail) =>
    args.length === 0 ? new Map() : fail('OrderedDict is called with arguments; expected none'),
  ),
  ...Object.keys(storageDTypes).map((name) => new PickleGlobal(name)),
];

/** The dictionary that holds the tensors: the root, or the one inside it that training programs put there. */
function findStateDict(root: PickleValue, file: string, offset: number): PickleDict {
  let value = root;
  // Bounded, because a hostile dict can contain itself.
  for (let depth = 0; depth < maxStateDictDepth && value instanceof Map; depth++) {
    const dict: PickleDict = value;
    if ([...dict.values()].some((item) => item instanceof Tensor)) return dict;
    const inner = stateDictKeys.map((key) => dict.get(key)).find((item) => item instanceof Map);
    if (inner === undefined) break;
    value = inner;
  }
  const got = root instanceof Map ? `a dict with keys ${brief([...root.keys()])}` : describePickled(root);
  throw new CheckpointError(
    `the pickle holds ${got}; expected a dict of tensors, at the top or at ${stateDictKeys.join(', ')}`,
    { file, offset },
  );
}
