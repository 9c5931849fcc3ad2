import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { openCheckpoint, toFloat32, type Checkpoint, type CheckpointEntry } from '../../src/io/index.js';
import { readPytorchEntries } from '../../src/io/pytorch.js';
import { TensorReader } from '../../src/io/tensor-reader.js';
import { checkpointErrorOf, concat, memoryFile, pickled, torchArchive, uint32, uint64, zip, type ZipPart } from './build.js';

const goldens = fileURLToPath(new URL('../fixtures/goldens/', import.meta.url));

async function floats(checkpoint: Checkpoint, key: string): Promise<Float32Array> {
  const entry = checkpoint.entries.get(key);
  if (entry === undefined) throw new Error(`${checkpoint.name} lacks ${key}`);
  return toFloat32(await checkpoint.read(entry), entry.dtype);
}

describe('files written by torch.save', () => {
  it.each([
    ['pytorch_model.bin', 'F32', 0],
    ['pytorch_model.f16.bin', 'F16', 2 ** -11],
    ['pytorch_model.bf16.bin', 'BF16', 2 ** -8],
  ])('%s holds the weights of the safetensors file, in %s', async (name, dtype, relativeStep) => {
    const official = await openCheckpoint(`${goldens}state-spaces-mamba/${name}`);
    const expected = await openCheckpoint(`${goldens}hf-mamba/model.safetensors`);
    expect(official.config).toMatchObject({ d_model: 32, ssm_cfg: { dt_rank: 4 } });
    const keys = [...expected.entries.keys()];
    const officialKeys = keys.map((key) => key.replace('embeddings', 'embedding'));
    expect([...official.entries.keys()].sort()).toEqual([...officialKeys, 'lm_head.weight'].sort());
    for (const key of keys) {
      const officialKey = key.replace('embeddings', 'embedding');
      expect(official.entries.get(officialKey)).toMatchObject({ dtype, shape: expected.entries.get(key)?.shape });
      const want = await floats(expected, key);
      const got = await floats(official, officialKey);
      expect(got).toHaveLength(want.length);
      // Rounding is off by half a step at most; below 2⁻¹⁴ a half's steps no longer shrink.
      const smallest = relativeStep === 0 ? 0 : 2 ** -25;
      const tolerance = (value: number) => Math.max(Math.abs(value) * relativeStep, smallest);
      const wrong = want.filter((value, i) => !(Math.abs(value - (got[i] ?? NaN)) <= tolerance(value)));
      expect([...wrong], key).toEqual([]);
    }
    await official.close();
    await expected.close();
  });

  it('gives tied tensors the same bytes', async () => {
    const checkpoint = await openCheckpoint(`${goldens}state-spaces-mamba/pytorch_model.bin`);
    const embedding = checkpoint.entries.get('backbone.embedding.weight');
    expect(checkpoint.entries.get('lm_head.weight')).toEqual({ ...embedding, key: 'lm_head.weight' });
    await checkpoint.close();
  });
});

const eight = new Uint8Array(Float32Array.of(0, 1, 2, 3, 4, 5, 6, 7).buffer);
const tensor = pickled.tensor(pickled.storage('0', 8), 2, [2, 3], [3, 1]);

function open(pickle: Uint8Array, storages: Record<string, Uint8Array> = { 0: eight }) {
  return readPytorchEntries(memoryFile(torchArchive(pickle, storages), 'weights.pth'));
}

/** What Module.state_dict() gives: an OrderedDict with an attribute. */
const emptyOrderedDict = concat(pickled.global('collections', 'OrderedDict'), ')R');
const orderedDict = concat(
  emptyOrderedDict, '(', pickled.text('w'), tensor, 'u',
  pickled.dict(['_metadata', pickled.dict(['', pickled.dict(['version', pickled.int(1)])])]), 'b',
);

const parameter = concat(
  pickled.global('torch._utils', '_rebuild_parameter'), pickled.tuple(tensor, concat([0x88]), emptyOrderedDict), 'R',
);

const trainingCheckpoint = pickled.dict(
  ['epoch', pickled.int(3)],
  ['state_dict', orderedDict],
  ['optimizer', pickled.dict(['state', concat('}')], ['param_groups', concat(']}a')])],
  ['lr', concat('G', [0x3f, 0xf0, 0, 0, 0, 0, 0, 0])],
  ['scheduler', concat('N')],
);

/** A storage whose size is a long integer and whose id is in the memo under a large number. */
const longStorage = concat(
  pickled.tuple(
    pickled.text('storage'),
    pickled.global('torch', 'FloatStorage'),
    pickled.text('0'),
    pickled.text('cpu'),
    pickled.long(8n),
  ),
  'r', uint32(70000), 'Q',
);

describe('state dictionaries', () => {
  it('finds a tensor that is part of a storage', async () => {
    const archive = torchArchive(pickled.file(pickled.dict(['w', tensor])), { 0: eight });
    const entry = (await readPytorchEntries(memoryFile(archive))).get('w');
    expect(entry).toMatchObject({ key: 'w', dtype: 'F32', shape: [2, 3], sizeBytes: 24, file: 'memory' });
    const offset = entry?.offset ?? 0;
    expect([...toFloat32(archive.slice(offset, offset + 24), 'F32')]).toEqual([2, 3, 4, 5, 6, 7]);
  });

  it.each<[string, Uint8Array]>([
    ['a dict', pickled.dict(['w', tensor])],
    ['an OrderedDict with attributes', orderedDict],
    ['a parameter', pickled.dict(['w', parameter])],
    ['state_dict in a training checkpoint', trainingCheckpoint],
    ['model in module', pickled.dict(['module', pickled.dict(['model', orderedDict])])],
    ['a tensor beside the options of a script, which are not read', pickled.dict(
      ['args', concat(pickled.global('argparse', 'Namespace'), ')', [0x81], pickled.dict(['lr', pickled.int(1)], ['sizes', concat(']')]), 'b')],
      ['model', pickled.dict(['w', tensor])],
    )],
    ['a tensor beside a number', pickled.dict(['step', pickled.int(-1)], ['w', tensor])],
    ['memo and long integers', concat('}', pickled.text('w'), 'q', [5], pickled.tensor(longStorage, 2, [2, 3], [3, 1]), 's')],
  ])('reads %s', async (_, pickle) => {
    const entries = await open(pickled.file(pickle));
    expect([...entries.values()]).toMatchObject([{ key: 'w', dtype: 'F32', shape: [2, 3], sizeBytes: 24 }]);
  });

  // Of the storage 0…7; the right values are NumPy's, by as_strided.
  it.each<[string, number, number[], number[], number[]]>([
    ['a transposed matrix', 0, [3, 2], [1, 3], [0, 3, 1, 4, 2, 5]],
    ['a transposed part', 2, [2, 3], [1, 2], [2, 4, 6, 3, 5, 7]],
    ['every other column', 1, [2, 2], [4, 2], [1, 3, 5, 7]],
    ['axes in another order', 0, [2, 2, 2], [1, 4, 2], [0, 2, 4, 6, 1, 3, 5, 7]],
    ['rows that are one row', 1, [2, 3], [0, 1], [1, 2, 3, 1, 2, 3]],
    ['one number as many', 5, [4], [0], [5, 5, 5, 5]],
    ['windows', 0, [3, 3], [2, 1], [0, 1, 2, 2, 3, 4, 4, 5, 6]],
  ])('puts %s in rows', async (_, start, shape, strides, expected) => {
    const types = [['FloatStorage', Float32Array], ['DoubleStorage', Float64Array], ['ShortStorage', Int16Array], ['CharStorage', Int8Array]] as const;
    for (const [type, Values] of types) {
      const storage = new Uint8Array(Values.from([0, 1, 2, 3, 4, 5, 6, 7]).buffer);
      const file = memoryFile(torchArchive(pickled.file(pickled.dict(['w', pickled.tensor(pickled.storage('0', 8, type), start, shape, strides)])), { 0: storage }));
      const entry = (await readPytorchEntries(file)).get('w') as CheckpointEntry;
      expect(entry).toMatchObject({ shape, strides, sizeBytes: expected.length * Values.BYTES_PER_ELEMENT });
      const bytes = await new TensorReader(true).read(file, entry);
      expect([...new Values(bytes.slice().buffer)], type).toEqual(expected);
    }
  });

  it('takes strides along sizes 0 and 1 as PyTorch does', async () => {
    const make = (shape: number[], strides: number[]) => pickled.tensor(pickled.storage('0', 8), 0, shape, strides);
    const entries = await open(pickled.file(pickled.dict(
      ['one', make([1, 2, 1, 3], [99, 3, 77, 1])], ['none', make([0, 5], [1, 2])], ['scalar', make([], [])],
    )));
    expect([...entries.values()].map(({ shape, sizeBytes }) => [shape, sizeBytes])).toEqual([[[1, 2, 1, 3], 24], [[0, 5], 0], [[], 4]]);
  });

  it('reads archives with ZIP64 records, and older ones without a byte order', async () => {
    const parts = [{ name: 'x/data.pkl', data: pickled.file(pickled.dict(['w', tensor])) }, { name: 'x/data/0', data: eight }];
    for (const zip64 of [false, true]) {
      expect((await readPytorchEntries(memoryFile(zip(parts, { zip64 })))).size).toBe(1);
    }
  });
});

interface HostilePickle {
  name: string;
  pickle: Uint8Array;
  message: RegExp;
  /** Position of the fault in the pickle. */
  at?: number;
  storages?: Record<string, Uint8Array>;
}

const w = (value: Uint8Array) => pickled.file(pickled.dict(['w', value]));
const float = (start: number, shape: number[], strides: number[]) => w(pickled.tensor(pickled.storage('0', 8), start, shape, strides));

const hostilePickles: HostilePickle[] = [
  { name: 'os.system', pickle: pickled.file(pickled.global('os', 'system'), pickled.tuple(pickled.text('rm -rf /')), concat('R')), message: /the global 'os\.system', .* nothing was executed/, at: 2 },
  { name: 'builtins.eval', pickle: pickled.file(pickled.global('builtins', 'eval')), message: /'builtins\.eval'/, at: 2 },
  { name: 'posix.system inside a dict', pickle: w(pickled.global('posix', 'system')), message: /'posix\.system'/ },
  { name: 'torch.load', pickle: w(pickled.global('torch', 'load')), message: /'torch\.load'/ },
  { name: 'a numpy array', pickle: w(pickled.global('numpy.core.multiarray', '_reconstruct')), message: /'numpy\.core\.multiarray\._reconstruct'.*state_dict/ },
  { name: 'a global name without end', pickle: pickled.file(concat('c', 'a'.repeat(10_000))), message: /does not end within 200 bytes/, at: 2 },
  { name: 'a global name that is not UTF-8', pickle: pickled.file(concat('c', [0xff, 0xff], '\nx\n')), message: /not valid UTF-8/, at: 2 },
  { name: 'STACK_GLOBAL', pickle: pickled.file(pickled.text('os'), pickled.text('system'), concat([0x93])), message: /opcode 0x93/, at: 2 + 7 + 11 },
  { name: 'INST', pickle: pickled.file(concat('(ios\nsystem\n')), message: /opcode 0x69/, at: 3 },
  { name: 'OBJ', pickle: pickled.file(concat('(o')), message: /opcode 0x6f/, at: 3 },
  { name: 'a call of a class that is not read', pickle: w(concat(pickled.global('argparse', 'Namespace'), ')R')), message: /calls the global argparse\.Namespace, which cannot be called/ },
  { name: 'an object of a number', pickle: w(concat(pickled.int(1), ')', [0x81])), message: /makes an object of 1 \(opcode 0x81\)/ },
  { name: 'attributes of an object of a class that are a list', pickle: w(concat(pickled.global('argparse', 'Namespace'), ')', [0x81], ']b')), message: /sets attributes of an object of argparse\.Namespace/ },
  { name: 'NEWOBJ', pickle: pickled.file(pickled.global('collections', 'OrderedDict'), concat(')', [0x81])), message: /opcode 0x81/ },
  { name: 'EXT1', pickle: pickled.file(concat([0x82, 1])), message: /opcode 0x82/, at: 2 },
  { name: 'an opcode that Python does not know', pickle: pickled.file(concat([0xff])), message: /opcode 0xff/, at: 2 },
  { name: 'protocol 4', pickle: concat([0x80, 4], '}.'), message: /protocol 4; expected 2/, at: 0 },
  { name: 'an empty pickle', pickle: new Uint8Array(0), message: /ends inside an opcode/, at: 0 },
  { name: 'no STOP', pickle: concat([0x80, 2], '}'), message: /ends inside an opcode/, at: 3 },
  { name: 'bytes after STOP', pickle: concat(pickled.file(concat('}')), '}'), message: /stops 1 bytes before its end/, at: 3 },
  { name: 'STOP without a value', pickle: pickled.file(), message: /untidy stack/, at: 2 },
  { name: 'STOP with two values', pickle: pickled.file(concat('NN')), message: /untidy stack/, at: 4 },
  { name: 'STOP with an open mark', pickle: pickled.file(concat('(N')), message: /untidy stack/, at: 4 },
  { name: 'a string longer than the file', pickle: pickled.file(concat('X', uint32(0xffffffff))), message: /expected 4294967295 more bytes, got 1/, at: 2 },
  { name: 'a string that is not UTF-8', pickle: pickled.file(concat('X', uint32(2), [0xc0, 0x80])), message: /not valid UTF-8/, at: 2 },
  { name: 'an integer of 255 bytes', pickle: pickled.file(concat([0x8a, 255], new Uint8Array(255))), message: /255 bytes; expected at most 8/, at: 2 },
  { name: 'an integer of 2^53', pickle: pickled.file(pickled.long(2n ** 53n)), message: /integer in the pickle is 9007199254740992/, at: 2 },
  { name: 'LONG4', pickle: pickled.file(concat([0x8b], uint32(0x7fffffff))), message: /opcode 0x8b/, at: 2 },
  { name: 'a nesting bomb of marks', pickle: pickled.file(concat('('.repeat(1_000_000))), message: /nested more than 100 deep/, at: 102 },
  { name: 'a nesting bomb of lists', pickle: pickled.file(concat(']'.repeat(600_000), 'a'.repeat(599_999))), message: /more than 1048576 opcodes/ },
  { name: 'nested lists within the limit', pickle: pickled.file(concat(']'.repeat(500_000), 'a'.repeat(499_999))), message: /holds a list; expected a dict of tensors/ },
  { name: 'nested tuples within the limit', pickle: pickled.file(concat('N', Uint8Array.from({ length: 1_000_000 }, () => 0x85))), message: /holds a tuple/ },
  { name: 'a memo bomb', pickle: pickled.file(Uint8Array.from(Array.from({ length: 600_000 }, (_, i) => [0x4e, 0x72, ...uint32(i * 7000)]).flat())), message: /more than 1048576 opcodes/ },
  { name: 'a billion laughs', pickle: pickled.file(concat(']q', [0]), ...Array.from({ length: 100 }, (_, i) => concat(']q', [i + 1], '(', ...Array.from({ length: 10 }, () => ['h'.charCodeAt(0), i]), 'e'))), message: /untidy stack/ },
  { name: 'a memo that is not set', pickle: pickled.file(concat('h', [7])), message: /memo 7, which is not set/, at: 2 },
  { name: 'a memo of nothing', pickle: pickled.file(concat('q', [7])), message: /the stack is empty/, at: 2 },
  { name: 'a tuple without a mark', pickle: pickled.file(concat('Nt')), message: /needs a mark/, at: 3 },
  { name: 'a tuple below a mark', pickle: pickled.file(concat('N(', [0x85])), message: /from an empty stack/, at: 4 },
  { name: 'an append to a dict', pickle: pickled.file(concat('}Na')), message: /appends to a dict; expected a list/, at: 4 },
  { name: 'items of a list', pickle: pickled.file(concat('](NNu')), message: /sets items of a list; expected a dict/, at: 6 },
  { name: 'a key without a value', pickle: pickled.file(concat('}(', pickled.text('a'), 'u')), message: /a dict key without a value/ },
  { name: 'a list as a key', pickle: pickled.file(concat('}]Ns')), message: /dict key in the pickle is a list/, at: 5 },
  { name: 'a key twice', pickle: pickled.file(pickled.dict(['w', tensor], ['w', tensor])), message: /key 'w' twice/ },
  { name: 'a huge key', pickle: pickled.file(pickled.dict(['k'.repeat(5000), tensor])), message: /5000 characters long/ },
  { name: 'a call of a string', pickle: pickled.file(concat(pickled.text('os.system'), ')R')), message: /calls 'os\.system', which cannot be called/ },
  { name: 'a call of a storage type', pickle: pickled.file(concat(pickled.global('torch', 'FloatStorage'), ')R')), message: /calls the global torch\.FloatStorage/ },
  { name: 'a call without a tuple', pickle: pickled.file(concat(pickled.global('collections', 'OrderedDict'), 'NR')), message: /calls with null; expected a tuple/ },
  { name: 'an OrderedDict of arguments', pickle: pickled.file(concat(pickled.global('collections', 'OrderedDict'), 'N', [0x85], 'R')), message: /OrderedDict is called with arguments/ },
  { name: 'attributes on a list', pickle: pickled.file(concat(']}b')), message: /attributes of a list; expected a dict/, at: 4 },
  { name: 'a parameter of nothing', pickle: w(concat(pickled.global('torch._utils', '_rebuild_parameter'), ')R')), message: /_rebuild_parameter is called with undefined/ },
  { name: 'a tensor of nothing', pickle: w(concat(pickled.global('torch._utils', '_rebuild_tensor_v2'), ')R')), message: /_rebuild_tensor_v2 is called with \(\)/ },
  { name: 'a persistent id that is text', pickle: w(concat(pickled.text('x'), 'Q')), message: /a persistent id is not/ },
  { name: 'a storage of an unknown type', pickle: w(pickled.storage('0', 8, 'ComplexFloatStorage')), message: /'torch\.ComplexFloatStorage'/ },
  { name: 'a storage type that is a function', pickle: w(concat(pickled.tuple(pickled.text('storage'), pickled.global('collections', 'OrderedDict'), pickled.text('0'), pickled.text('cpu'), pickled.int(8)), 'Q')), message: /a persistent id is not/ },
  { name: 'a storage that is missing', pickle: w(pickled.storage('1', 8)), message: /lacks storage '1'/ },
  { name: 'a storage by a path', pickle: w(pickled.storage('../data.pkl', 8)), message: /lacks storage '\.\.\/data\.pkl'/ },
  { name: 'a storage with a lying type', pickle: w(pickled.storage('0', 8, 'DoubleStorage')), message: /storage '0' has 32 bytes; expected 8 items of F64/ },
  { name: 'a storage with a lying size', pickle: w(pickled.storage('0', 9)), message: /storage '0' has 32 bytes; expected 9 items of F32/ },
  { name: 'a storage of negative size', pickle: w(pickled.storage('0', -8)), message: /a persistent id is not/ },
  { name: 'a storage of 2^53 bytes', pickle: w(pickled.storage('0', pickled.long(2n ** 53n - 1n))), message: /expected 9007199254740991 items/ },
  { name: 'a tensor beyond its storage', pickle: float(3, [2, 3], [3, 1]), message: /spans 6 items from item 3 on; .* storage of 8 items/ },
  { name: 'a tensor larger than its storage', pickle: float(0, [3, 3], [3, 1]), message: /spans 9 items from item 0 on/ },
  { name: 'a negative storage offset', pickle: float(-1, [2], [1]), message: /called with \(a storage, -1, a tuple, a tuple\)/ },
  { name: 'a negative size', pickle: float(0, [-2], [1]), message: /sizes from 0/ },
  { name: 'sizes whose product overflows', pickle: float(0, [2 ** 30, 2 ** 30], [2 ** 30, 1]), message: /fewer than 2\^53 items/ },
  { name: 'a transposed tensor beyond its storage', pickle: float(3, [2, 3], [1, 2]), message: /spans 6 items from item 3 on; .* storage of 8 items/ },
  { name: 'a stride beyond its storage', pickle: float(0, [2, 2], [7, 1]), message: /spans 9 items/ },
  { name: 'strides that overflow', pickle: w(pickled.tensor(pickled.storage('0', 8), 0, [2, 2], [2 ** 30, 2 ** 30])), message: /spans 2147483649 items/ },
  { name: 'a repeated view larger than the file', pickle: float(0, [2 ** 30], [0]), message: /repeats 1 items 1073741824 times over; .* Hint: call \.contiguous\(\)/ },
  { name: 'a repeated view in rows', pickle: float(0, [2 ** 20, 8], [0, 1]), message: /repeats 8 items 8388608 times over/ },
  { name: 'sizes without strides', pickle: float(0, [2, 3], [1]), message: /_rebuild_tensor_v2 is called with/ },
  { name: 'a number', pickle: pickled.file(pickled.int(1)), message: /holds 1; expected a dict of tensors/ },
  { name: 'a bare tensor', pickle: pickled.file(tensor), message: /holds a tensor; expected a dict of tensors/ },
  { name: 'an empty dict', pickle: pickled.file(concat('}')), message: /dict with keys \[\]; expected a dict of tensors/ },
  { name: 'a dict without tensors', pickle: pickled.file(pickled.dict(['optimizer', concat('}')])), message: /keys \['optimizer'\]/ },
  { name: 'a dict that contains itself', pickle: pickled.file(concat('}q', [0]), pickled.text('state_dict'), concat('h', [0], 's')), message: /keys \['state_dict'\]/ },
  { name: 'a list that contains itself', pickle: pickled.file(concat(']q', [0], 'h', [0], 'a')), message: /holds a list/ },
  { name: 'a tensor under a number', pickle: pickled.file(concat('}', pickled.int(5), tensor, 's')), message: /a number for a name/ },
];

describe('hostile pickles', () => {
  it.each(hostilePickles)('refuses $name', async ({ pickle, message, at, storages }) => {
    const error = await checkpointErrorOf(() => open(pickle, storages));
    expect(error.message).toMatch(message);
    expect(error.file).toBe('weights.pth');
    // The pickle is the first entry: its bytes follow its local header.
    if (at !== undefined) expect(error.offset).toBe(30 + 'a/data.pkl'.length + at);
    else expect(error.offset).toBeDefined();
    expect(error.message.length).toBeLessThan(500);
  });

  it('refuses a pickle cut at any byte', async () => {
    const pickle = pickled.file(orderedDict);
    for (let length = 0; length < pickle.length; length++) await checkpointErrorOf(() => open(pickle.slice(0, length)));
    expect((await open(pickle)).size).toBe(1);
  });
});

const pickle = pickled.file(pickled.dict(['w', tensor]));
const data = (overrides: Partial<ZipPart> = {}): ZipPart => ({ name: 'a/data/0', data: eight, ...overrides });
const archiveOf = (...parts: ZipPart[]) => zip([{ name: 'a/data.pkl', data: pickle }, ...parts]);
const good = archiveOf(data());
const good64 = zip([{ name: 'a/data.pkl', data: pickle }, data()], { zip64: true });

/** `bytes` with others at `offset` (negative: from the end). */
function patched(bytes: Uint8Array, offset: number, ...others: number[]): Uint8Array {
  const copy = bytes.slice();
  copy.set(others, offset < 0 ? bytes.length + offset : offset);
  return copy;
}

const hostileArchives: { name: string; bytes: Uint8Array; message: RegExp; key?: string }[] = [
  { name: 'an empty file', bytes: new Uint8Array(0), message: /no zip end record/ },
  { name: 'text', bytes: concat('version https://git-lfs.github.com/spec/v1\n'), message: /no zip end record/ },
  { name: 'something appended', bytes: concat(good, [0]), message: /no zip end record/ },
  { name: 'a cut end', bytes: good.slice(0, -1), message: /no zip end record/ },
  { name: 'something in front', bytes: concat([0], good), message: /zip directory is said to be at byte/ },
  { name: 'an archive comment', bytes: patched(good, -2, 1), message: /no zip end record/ },
  { name: 'several disks', bytes: patched(good, -18, 1), message: /several parts/ },
  { name: 'more entries than there are', bytes: zip([{ name: 'a/data.pkl', data: pickle }], { entryCount: 2 }), message: /has 1 entries; expected 2/ },
  { name: 'fewer entries than there are', bytes: zip([{ name: 'a/data.pkl', data: pickle }, data()], { entryCount: 1 }), message: /has 2 entries; expected 1/ },
  { name: 'a directory beyond the file', bytes: patched(good, -6, 0xff, 0xff, 0xff, 0x7f), message: /zip directory is said to be at byte 2147483647/ },
  { name: 'a directory that is too long', bytes: patched(good, -10, 0xff, 0xff), message: /expected it to end at byte/ },
  { name: 'a ZIP64 record elsewhere', bytes: patched(good64, -22 - 12, ...uint64(2n ** 63n)), message: /ZIP64 end record is said to be at byte/ },
  { name: 'a ZIP64 record without signature', bytes: patched(good64, -22 - 20 - 56, 0), message: /contradicts the zip end record/ },
  { name: 'ZIP64 entries that contradict', bytes: patched(good64, -22 - 20 - 56 + 32, 9), message: /contradicts the zip end record/ },
  { name: 'no zip directory record', bytes: patched(good, good.indexOf(0x01, good.length - 22 - 2 * 46 - 18), 0), message: /directory record was expected/ },
  { name: 'a compressed entry', bytes: archiveOf(data({ directory: { method: 8 } })), message: /compressed \(method 8\)/, key: 'a/data/0' },
  { name: 'an entry that is compressed by its local header', bytes: archiveOf(data({ local: { method: 8 } })), message: /contradicts the directory/, key: 'a/data/0' },
  { name: 'an encrypted entry', bytes: archiveOf(data({ directory: { flags: 1 } })), message: /encrypted/, key: 'a/data/0' },
  { name: 'unknown flags', bytes: archiveOf(data({ directory: { flags: 0x2000 } })), message: /flags 0x2000/, key: 'a/data/0' },
  { name: 'two entries of one name', bytes: archiveOf(data(), data()), message: /two entries of this name/, key: 'a/data/0' },
  { name: 'another local name', bytes: archiveOf(data({ local: { name: 'a/data/1' } })), message: /contradicts the directory/, key: 'a/data/0' },
  { name: 'a longer local name', bytes: archiveOf(data({ local: { name: 'a/data/00' } })), message: /contradicts the directory/, key: 'a/data/0' },
  { name: 'another local size', bytes: archiveOf(data({ local: { sizeBytes: 31 } })), message: /contradicts the directory/, key: 'a/data/0' },
  { name: 'a size into the directory', bytes: archiveOf(data({ directory: { sizeBytes: 64, storedSizeBytes: 64 }, local: { sizeBytes: 64 } })), message: /64 bytes end at byte/, key: 'a/data/0' },
  { name: 'a size of 4 GB', bytes: archiveOf(data({ directory: { sizeBytes: 0xfffffff0, storedSizeBytes: 0xfffffff0 }, local: { sizeBytes: 0xfffffff0 } })), message: /4294967280 bytes end at byte/, key: 'a/data/0' },
  { name: 'a size in a ZIP64 field that is missing', bytes: archiveOf(data({ directory: { sizeBytes: 0xffffffff } })), message: /lacks its ZIP64 sizes/, key: 'a/data/0' },
  { name: 'unequal sizes', bytes: archiveOf(data({ directory: { sizeBytes: 64 } })), message: /stores 64 bytes in 32/, key: 'a/data/0' },
  { name: 'a local header beyond the directory', bytes: archiveOf(data({ directory: { offset: 0x7fffffff } })), message: /said to be at byte 2147483647/, key: 'a/data/0' },
  { name: 'no local header there', bytes: archiveOf(data({ directory: { offset: 1 } })), message: /local header was expected here/, key: 'a/data/0' },
  { name: 'a local extra field into the directory', bytes: patched(good, 30 + 10 + pickle.length + 28, 0xff, 0xff), message: /expected at most/, key: 'a/data/0' },
  { name: 'entries inside each other', bytes: zip([{ name: 'a/data.pkl', data: pickle }, { name: 'a/data/1', data: archiveOf(data()).slice(40 + pickle.length, 110 + pickle.length) }, data({ directory: { offset: 40 + pickle.length + 38 } })]), message: /inside another that ends at/, key: 'a/data/0' },
  { name: 'a name that is not UTF-8', bytes: patched(good, good.length - 22 - 8, 0xff), message: /name is not UTF-8/ },
  { name: 'no pickle', bytes: zip([data()]), message: /0 entries '<name>\/data\.pkl'/ },
  { name: 'two pickles', bytes: archiveOf(data(), { name: 'b/data.pkl', data: pickle }), message: /2 entries '<name>\/data\.pkl'/ },
  { name: 'a pickle above 32 MiB', bytes: zip([{ name: 'a/data.pkl', data: new Uint8Array(2 ** 25 + 1) }]), message: /pickle is 33554433 bytes long/, key: 'a/data.pkl' },
  { name: 'big-endian numbers', bytes: torchArchive(pickle, { 0: eight }, 'big'), message: /byte order is 'big'; expected 'little'/, key: 'a/byteorder' },
];

describe('hostile archives', () => {
  it.each(hostileArchives)('refuses $name', async ({ bytes, message, key }) => {
    const error = await checkpointErrorOf(() => readPytorchEntries(memoryFile(bytes, 'weights.bin')));
    expect(error.message).toMatch(message);
    expect(error.file).toBe('weights.bin');
    expect(error.key).toBe(key);
  });

  it.each([['plain', good], ['ZIP64', good64]])('refuses a %s archive cut at any byte', async (_, bytes) => {
    expect((await readPytorchEntries(memoryFile(bytes))).size).toBe(1);
    for (let length = 0; length < bytes.length; length++) {
      await checkpointErrorOf(() => readPytorchEntries(memoryFile(bytes.slice(0, length))));
    }
  });

  it('refuses the official file cut anywhere', async () => {
    const bytes = await readFile(`${goldens}state-spaces-mamba/pytorch_model.bin`);
    for (let length = 0; length < bytes.length; length += 997) {
      await checkpointErrorOf(() => readPytorchEntries(memoryFile(bytes.subarray(0, length))));
    }
  });
});
