import { describe, expect, it } from 'vitest';
import { toFloat32, type CheckpointEntry } from '../../src/io/index.js';
import { readPytorchEntries } from '../../src/io/pytorch.js';
import { TensorReader } from '../../src/io/tensor-reader.js';
import { checkpointErrorOf, concat, legacyTorchFile, memoryFile, pickled } from './build.js';

const none = concat('N');
const four = { data: new Uint8Array(Float32Array.of(1, 2, 3, 4).buffer), itemCount: 4 };
const two = { data: new Uint8Array(Float64Array.of(5, 6).buffer), itemCount: 2 };
const tensor = (key: string, itemCount: number, shape: number[], strides: number[], type?: string) =>
  pickled.tensor(pickled.storage(key, itemCount, type, none), 0, shape, strides);
const stateDict = pickled.dict(['w', tensor('10', 4, [2, 2], [2, 1])], ['v', tensor('9', 2, [2], [1], 'DoubleStorage')], ['t', tensor('10', 4, [2, 2], [1, 2])]);
const storages = { 10: four, 9: two };
const good = legacyTorchFile(stateDict, storages, { keys: ['9', '10'] });

async function valuesOf(bytes: Uint8Array): Promise<Record<string, readonly number[]>> {
  const file = memoryFile(bytes, 'old.bin');
  const entries = [...(await readPytorchEntries(file)).values()];
  const read = async (entry: CheckpointEntry) => [entry.key, [...toFloat32(await new TensorReader(undefined).read(file, entry), entry.dtype)]] as const;
  return Object.fromEntries(await Promise.all(entries.map(read)));
}

describe('files that torch.save wrote before PyTorch 1.6', () => {
  it.each<[string, Uint8Array, Record<string, number[]>]>([
    // An object's keys that are numbers come in their order: 9, then 10, in the list as behind it.
    ['tensors that share a storage', good, { w: [1, 2, 3, 4], v: [5, 6], t: [1, 3, 2, 4] }],
    ['a training checkpoint', legacyTorchFile(pickled.dict(['epoch', pickled.int(1)], ['model', pickled.dict(['w', tensor('0', 4, [4], [1])])]), { 0: four }), { w: [1, 2, 3, 4] }],
    ['a persistent id without a view', legacyTorchFile(pickled.dict(['w', pickled.tensor(pickled.storage('a', 4), 1, [2], [1])]), { a: four }), { w: [2, 3] }],
  ])('give %s', async (_, bytes, expected) => {
    expect(await valuesOf(bytes)).toEqual(expected);
  });

  const one = (value: Uint8Array) => legacyTorchFile(pickled.dict(['w', value]), { 0: four });
  const w = tensor('0', 4, [4], [1]);
  it.each<[string, Uint8Array, RegExp]>([
    ['another version', legacyTorchFile(pickled.dict(['w', w]), { 0: four }, { version: pickled.int(1002) }), /format's version is 1002; expected 1001/],
    ['a version that is a list', legacyTorchFile(pickled.dict(['w', w]), { 0: four }, { version: concat(']') }), /format's version is a list/],
    ['big-endian numbers', legacyTorchFile(pickled.dict(['w', w]), { 0: four }, { system: pickled.dict(['little_endian', concat([0x89])]) }), /not written on a little-endian machine/],
    ['a system that is a number', legacyTorchFile(pickled.dict(['w', w]), { 0: four }, { system: pickled.int(1) }), /expected little_endian: True/],
    ['code', legacyTorchFile(concat(pickled.global('os', 'system'), pickled.tuple(pickled.text('true')), 'R'), { 0: four }), /the global 'os\.system', .* nothing was executed/],
    ['code in the version', legacyTorchFile(pickled.dict(['w', w]), { 0: four }, { version: pickled.global('torch', 'FloatStorage') }), /asks for the global 'torch\.FloatStorage'/],
    ['a storage in the system', legacyTorchFile(pickled.dict(['w', w]), { 0: four }, { system: concat(pickled.text('x'), 'Q') }), /a persistent id outside of the state dict/],
    ['a view of a storage', one(pickled.tensor(pickled.storage('0', 4, 'FloatStorage', pickled.tuple(pickled.text('1'), pickled.int(0), pickled.int(4))), 0, [4], [1])), /is a view of another/],
    ['two sizes of a storage', one(concat(pickled.tuple(w, tensor('0', 2, [2], [1])))), /is 2 items of F32 here and 4 of F32 elsewhere/],
    ['a storage that is not in the file', legacyTorchFile(pickled.dict(['w', w]), {}), /key 'w', .*lacks the storage '0' of the tensor/],
    ['a storage of no tensor', legacyTorchFile(pickled.dict(['w', w]), { 0: four, 1: four }), /storage '1' is listed but belongs to no tensor/],
    ['a storage twice', legacyTorchFile(pickled.dict(['w', w]), { 0: four, 1: four }, { keys: ['0', '0'] }), /storage '0' is listed twice/],
    ['a storage of another size', legacyTorchFile(pickled.dict(['w', w]), { 0: { ...four, itemCount: 5 } }), /storage '0' has 5 items; expected 4/],
    ['a storage of 2^63 items', legacyTorchFile(pickled.dict(['w', w]), { 0: { ...four, itemCount: 2 ** 63 } }), /has 9223372036854776000 items; expected 4/],
    ['a storage beyond the file', good.slice(0, -1), /the file ends inside storage '10' of 16 bytes. Hint: it may be an incomplete download/],
    ['something appended', concat(good, [0]), /1 bytes after the last storage; expected the file to end here/],
    ['no state dict', legacyTorchFile(pickled.int(1), {}), /holds 1; expected a dict of tensors/],
    ['nothing after the magic number', good.slice(0, 15), /the pickle ends inside an opcode/],
  ])('are refused with %s', async (_, bytes, message) => {
    const error = await checkpointErrorOf(() => readPytorchEntries(memoryFile(bytes, 'old.bin')));
    expect(error.message).toMatch(message);
    expect(error.file).toBe('old.bin');
    expect(error.offset).toBeDefined();
  });
});
