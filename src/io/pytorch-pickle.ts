/** What the pickles of torch.save hold: dictionaries of tensors, which are shapes laid over storages. */
import type { RandomAccessFile } from '../platform/platform.js';
import { CheckpointError } from '../util/errors.js';
import type { CheckpointEntry, StoredChecksum } from './checkpoint-entry.js';
import { describePickled, PickleGlobal, PickleObject, PickleTuple, type Fail, type PickleDict, type PickleValue } from './pickle.js';
import { storedItemSizeBytes, type StoredDType } from './stored-dtype.js';
import { isRowByRow, spannedItems } from './strided.js';
import { brief, isSize, safeProduct } from './validate.js';

/** A pickle above this is refused: that of 30,000 tensors has some 5 MB. */
export const maxPickleSizeBytes = 1 << 25;

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

/** A storage: a run of numbers of one type. */
export class Storage extends PickleObject {
  readonly kind = 'a storage';
  /** @param place where its bytes are in the file; before PyTorch 1.6 that is known only after the pickle has been read */
  constructor(
    readonly key: string,
    readonly dtype: StoredDType,
    readonly itemCount: number,
    public place: { readonly offset: number; readonly checksum?: StoredChecksum | undefined } | undefined,
  ) {
    super();
  }
}

/** A tensor: a shape laid over a part of a storage. */
class Tensor extends PickleObject {
  readonly kind = 'a tensor';
  /** @param start its first element, counted from the storage's first */
  constructor(
    readonly storage: Storage,
    readonly start: number,
    readonly shape: readonly number[],
    readonly strides: readonly number[],
  ) {
    super();
  }
}

/** What a persistent id says: ('storage', type, key, device, item count, …). */
export function parseStorageId(id: PickleValue, fail: Fail): { key: string; dtype: StoredDType; itemCount: number; more: readonly PickleValue[] } {
  const [tag, type, key, , itemCount, ...more] = id instanceof PickleTuple ? id.items : [];
  const dtype = type instanceof PickleGlobal ? storageDTypes[type.name] : undefined;
  if (tag !== 'storage' || dtype === undefined || typeof key !== 'string' || !isSize(itemCount)) {
    return fail("a persistent id is not ('storage', storage type, key, device, item count)");
  }
  return { key, dtype, itemCount, more };
}

/**
 * The global names that a state dict needs.
 * @param file its size bounds what a view that repeats elements may stand for
 */
export function torchGlobals(file: RandomAccessFile): readonly PickleGlobal[] {
  return [
    new PickleGlobal('torch._utils._rebuild_tensor_v2', (args, fail) => rebuildTensor(args, file.sizeBytes, fail)),
    // _rebuild_parameter(tensor, requires_grad, backward_hooks): for us a parameter is its tensor.
    new PickleGlobal('torch._utils._rebuild_parameter', ([tensor], fail) =>
      tensor instanceof Tensor ? tensor : fail(`_rebuild_parameter is called with ${describePickled(tensor)}, not a tensor`),
    ),
    new PickleGlobal('collections.OrderedDict', (args, fail) =>
      args.length === 0 ? new Map() : fail('OrderedDict is called with arguments; expected none'),
    ),
    // The options of a training script, which many put beside the weights.
    new PickleGlobal('argparse.Namespace', 'unread'),
    ...Object.keys(storageDTypes).map((name) => new PickleGlobal(name)),
  ];
}

/** torch._utils._rebuild_tensor_v2(storage, storage_offset, size, stride, requires_grad, backward_hooks, …) */
function rebuildTensor(args: readonly PickleValue[], maxSizeBytes: number, fail: Fail): Tensor {
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
  const spanned = spannedItems(shape, strides);
  if (start + spanned > storage.itemCount) {
    return fail(
      `a tensor spans ${spanned} items from item ${start} on; expected it inside its storage of ` +
        `${storage.itemCount} items`,
    );
  }
  // A view may repeat its elements (expand): the file must not stand for more memory than it has bytes.
  if (itemCount > spanned && itemCount * storedItemSizeBytes(storage.dtype) > maxSizeBytes) {
    return fail(
      `a tensor of shape ${brief(shape)} repeats ${spanned} items ${itemCount} times over; expected at most the ` +
        `file's ${maxSizeBytes} bytes. Hint: call .contiguous() on it before torch.save.`,
    );
  }
  return new Tensor(storage, start, shape, strides);
}

/** Where the weights are in a training checkpoint, by the habits of PyTorch programs. */
const stateDictKeys = ['state_dict', 'model_state_dict', 'model', 'module'];
const maxStateDictDepth = 4;

/**
 * The tensors of a state dict, once their storages have a place.
 * @param offset where the pickle is, for messages
 * @throws CheckpointError when there is no state dict, or a tensor has no name
 */
export function entriesOf(root: PickleValue, file: string, offset: number): ReadonlyMap<string, CheckpointEntry> {
  const entries = new Map<string, CheckpointEntry>();
  for (const [key, value] of findStateDict(root, file, offset)) {
    if (!(value instanceof Tensor)) continue; // step counters, hyperparameters and the like beside the weights
    const { storage, start, shape, strides } = value;
    if (typeof key !== 'string') {
      throw new CheckpointError('a tensor has a number for a name; expected a string', { file, key: String(key), offset });
    }
    const { dtype, place } = storage;
    if (place === undefined) throw new CheckpointError(`the file lacks the storage ${brief(storage.key)} of the tensor`, { file, key, offset });
    const itemSize = storedItemSizeBytes(dtype);
    entries.set(key, {
      key,
      dtype,
      shape,
      file,
      offset: place.offset + start * itemSize,
      sizeBytes: shape.reduce((product, extent) => product * extent, itemSize),
      ...(isRowByRow(shape, strides) ? {} : { strides }),
      ...(place.checksum === undefined ? {} : { checksum: place.checksum }),
    });
  }
  return entries;
}

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
