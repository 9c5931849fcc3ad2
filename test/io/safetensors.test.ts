import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { fromFloat32, openCheckpoint, parseSafetensors, safetensorsChunks } from '../../src/io/index.js';
import { storedItemSizeBytes } from '../../src/io/stored-dtype.js';
import type { SafetensorsSource } from '../../src/io/index.js';
import { readSafetensorsHeader } from '../../src/io/safetensors.js';
import { platform } from '../../src/platform/node.js';
import { ArgumentError } from '../../src/util/errors.js';
import { checkpointErrorOf, concat, memoryFile, rawSafetensors, uint64 } from './build.js';

const golden = fileURLToPath(new URL('../fixtures/goldens/scan-1.safetensors', import.meta.url));

function source(key: string, dtype: SafetensorsSource['dtype'], shape: number[], bytes: Uint8Array): SafetensorsSource {
  return { key, dtype, shape, sizeBytes: bytes.length, bytes: () => bytes };
}

describe('reading', () => {
  it('gives the tensors of a file made by the reference implementation', async () => {
    const bytes = await readFile(golden);
    const { tensors, metadata } = parseSafetensors(bytes);
    expect([...tensors.keys()].slice(0, 3)).toEqual(['A', 'B', 'C']);
    expect(tensors.get('B')).toMatchObject({ dtype: 'F64', shape: [2, 7, 4] });
    expect(metadata).toEqual({});
    const header = await readSafetensorsHeader(memoryFile(bytes));
    const B = header.entries.get('B');
    expect(B).toMatchObject({ offset: bytes.length - 4432 + 96, sizeBytes: 448, file: 'memory' });
  });

  it('accepts scalars, empty tensors, no tensors and trailing spaces', () => {
    const header =
      '{"scalar":{"dtype":"U8","shape":[],"data_offsets":[0,1]},"empty":{"dtype":"F32","shape":[3,0],"data_offsets":[1,1]}}  ';
    const { tensors } = parseSafetensors(rawSafetensors(header, 1));
    expect(tensors.get('scalar')?.bytes).toHaveLength(1);
    expect(tensors.get('empty')?.bytes).toHaveLength(0);
    expect(parseSafetensors(rawSafetensors('{}', 0)).tensors.size).toBe(0);
  });

  it('takes keys that are names of object properties as names', () => {
    const header = '{"__metadata__":{"__proto__":"x"},"__proto__":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}';
    const { tensors, metadata } = parseSafetensors(rawSafetensors(header, 1));
    expect([...tensors.keys()]).toEqual(['__proto__']);
    expect(Object.entries(metadata)).toEqual([['__proto__', 'x']]);
  });
});

describe('writing', () => {
  it('round-trips every dtype through a file', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'elapid-io-'));
    try {
      const path = join(folder, 'x.safetensors');
      const written = [
        source('a', 'U8', [3], Uint8Array.of(1, 2, 3)),
        source('b', 'F32', [2, 2], fromFloat32(Float32Array.of(1, 2, 3, 4), 'F32')),
        source('c', 'F16', [1], fromFloat32(Float32Array.of(0.5), 'F16')),
        source('d', 'I64', [1], Uint8Array.from(uint64(7))),
        source('é"\\', 'BF16', [], fromFloat32(Float32Array.of(-2), 'BF16')),
        source('none', 'F64', [0, 4], new Uint8Array(0)),
      ];
      await platform.writeFileAtomically(path, safetensorsChunks(written, { format: 'pt', note: 'ü' }));
      const checkpoint = await openCheckpoint(path);
      expect(checkpoint.metadata).toEqual({ format: 'pt', note: 'ü' });
      expect([...checkpoint.entries.keys()].sort()).toEqual(written.map(({ key }) => key).sort());
      for (const tensor of written) {
        const { key, dtype, shape } = tensor;
        const entry = checkpoint.entries.get(key);
        if (entry === undefined) throw new Error(key);
        expect(entry).toMatchObject({ dtype, shape });
        expect(await checkpoint.read(entry)).toEqual(tensor.bytes());
        expect(entry.offset % storedItemSizeBytes(dtype), key).toBe(0);
      }
      await checkpoint.close();
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it('writes what the reference implementation writes, apart from the order of the JSON keys', async () => {
    const bytes = await readFile(golden);
    const { tensors } = parseSafetensors(bytes);
    const sources = [...tensors].reverse().map(([key, tensor]) => source(key, tensor.dtype, [...tensor.shape], tensor.bytes));
    expect(Buffer.from(concat(...safetensorsChunks(sources))).equals(bytes)).toBe(true);
  });

  it('aligns the data to 8 bytes and every tensor to its item size', () => {
    const odd = source('a', 'U8', [1], Uint8Array.of(9));
    const wide = source('b', 'F64', [1], new Uint8Array(8));
    const file = concat(...safetensorsChunks([odd, wide]));
    const { tensors } = parseSafetensors(file);
    expect(tensors.get('b')?.bytes.byteOffset).toBe(file.length - 9);
    expect((file.length - 9) % 8).toBe(0);
  });

  it('takes data in pieces and asks for it only when its turn comes', () => {
    const asked: string[] = [];
    const lazy = (key: string): SafetensorsSource => ({
      key,
      dtype: 'U8',
      shape: [4],
      sizeBytes: 4,
      bytes() {
        asked.push(key);
        return [Uint8Array.of(1, 2), Uint8Array.of(3, 4)];
      },
    });
    const chunks = safetensorsChunks([lazy('b'), lazy('a')])[Symbol.iterator]();
    chunks.next();
    expect(asked).toEqual([]);
    chunks.next();
    expect(asked).toEqual(['a']);
    chunks.next();
    chunks.next();
    expect(asked).toEqual(['a', 'b']);
  });

  it.each<[string, SafetensorsSource[], RegExp]>([
    ['a reserved key', [source('__metadata__', 'U8', [1], new Uint8Array(1))], /key '__metadata__' is reserved/],
    ['a key twice', [source('a', 'U8', [1], new Uint8Array(1)), source('a', 'U8', [1], new Uint8Array(1))], /'a' is given twice/],
    ['a wrong size', [source('a', 'F32', [2], new Uint8Array(4))], /sizeBytes of 'a' is 4; expected 8 for F32 \[2\]/],
    ['a negative shape', [source('a', 'F32', [-1], new Uint8Array(4))], /shape of 'a' is \[-1\]/],
    ['short data', [{ ...source('a', 'U8', [2], new Uint8Array(2)), bytes: () => [Uint8Array.of(1)] }], /data of 'a' is 1 bytes/],
  ])('refuses %s', (_, sources, message) => {
    const write = () => [...safetensorsChunks(sources)];
    expect(write).toThrow(ArgumentError);
    expect(write).toThrow(message);
  });

  it('leaves no file behind when the data is short', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'elapid-io-'));
    try {
      const path = join(folder, 'x.safetensors');
      const short = { ...source('a', 'U8', [2], new Uint8Array(2)), bytes: () => new Uint8Array(1) };
      await expect(platform.writeFileAtomically(path, safetensorsChunks([short]))).rejects.toThrow(ArgumentError);
      await expect(stat(path)).rejects.toThrow('ENOENT');
      expect(await platform.listFolder(folder)).toEqual([]);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});

/** Header entry of a U8 tensor. */
const u8 = (begin: number, end: number) => `{"dtype":"U8","shape":[${end - begin}],"data_offsets":[${begin},${end}]}`;
const one = (fields: string) => rawSafetensors(`{"x":{${fields}}}`, 4);
const valid = rawSafetensors(`{"x":${u8(0, 4)}}`, 4);

interface Hostile {
  name: string;
  bytes: Uint8Array;
  message: RegExp;
  key?: string;
  offset?: number;
}

const hostile: Hostile[] = [
  { name: 'an empty file', bytes: new Uint8Array(0), message: /ends inside the header length/, offset: 0 },
  { name: 'a cut header length', bytes: valid.slice(0, 7), message: /ends inside the header length/, offset: 0 },
  { name: 'a cut header', bytes: valid.slice(0, 20), message: /header length is 53 bytes; expected at most 12/, offset: 0 },
  { name: 'cut data', bytes: valid.slice(0, -1), message: /data ends at byte 65; expected at most the file's 64 bytes/, key: 'x', offset: 9 },
  { name: 'all data cut', bytes: valid.slice(0, -4), message: /data ends at byte 65/, key: 'x' },
  { name: 'a byte too many', bytes: concat(valid, [0]), message: /1 bytes after the last tensor/, offset: valid.length },
  { name: 'data but no tensors', bytes: rawSafetensors('{}', 3), message: /3 bytes after the last tensor/, offset: 10 },
  { name: 'header length 2^63', bytes: concat(uint64(2n ** 63n), valid.slice(8)), message: /header length is 9223372036854776000 bytes/, offset: 0 },
  { name: 'header length 2^64-1', bytes: concat(uint64(2n ** 64n - 1n), valid.slice(8)), message: /expected at most/, offset: 0 },
  { name: 'header length 0', bytes: concat(uint64(0), [1, 2, 3]), message: /does not start with '{'/, offset: 8 },
  { name: 'a short header length', bytes: concat(uint64(20), valid.slice(8)), message: /not valid JSON/, offset: 8 },
  { name: 'a header of text', bytes: rawSafetensors('hello', 0), message: /does not start with '{'/, offset: 8 },
  { name: 'an array', bytes: rawSafetensors('[]', 0), message: /does not start with '{'/, offset: 8 },
  { name: 'a byte order mark', bytes: rawSafetensors('\ufeff{}', 0), message: /does not start with '{'/ },
  { name: 'a space first', bytes: rawSafetensors(' {}', 0), message: /does not start with '{'/ },
  { name: 'two objects', bytes: rawSafetensors('{}{}', 0), message: /not valid JSON/ },
  { name: 'a header that is not UTF-8', bytes: rawSafetensors(concat('{"', [0xff, 0xfe], '":1}'), 0), message: /not valid UTF-8/, offset: 8 },
  { name: 'deep nesting', bytes: rawSafetensors('{"x":' + '['.repeat(200_000), 0), message: /not valid JSON/ },
  { name: 'deep nesting that closes', bytes: rawSafetensors(`{"x":${'['.repeat(200_000)}${']'.repeat(200_000)}}`, 0), message: /header entry is \[\[…\]\]/, key: 'x' },
  { name: 'millions of small values', bytes: rawSafetensors(`{"x":[${'{},'.repeat(2_200_000)}{}]}`, 0), message: /more than 4194304 values/, offset: 8 },
  { name: 'a tensor twice', bytes: rawSafetensors(`{"x":${u8(0, 4)},"x":${u8(0, 4)}}`, 4), message: /this key twice/, key: 'x', offset: 61 },
  { name: 'a tensor twice, once escaped', bytes: rawSafetensors(`{"x":${u8(0, 4)},"\\u0078" : ${u8(0, 4)}}`, 4), message: /this key twice/, key: 'x' },
  { name: 'a field twice', bytes: one('"dtype":"U8","shape":[4],"data_offsets":[0,4],"dtype":"I8"'), message: /this key twice/, key: 'dtype' },
  { name: 'metadata twice', bytes: rawSafetensors('{"__metadata__":{},"__metadata__":{}}', 0), message: /this key twice/, key: '__metadata__' },
  { name: 'metadata that is a list', bytes: rawSafetensors('{"__metadata__":["a"]}', 0), message: /expected an object of strings/, key: '__metadata__', offset: 9 },
  { name: 'metadata with a number', bytes: rawSafetensors('{"__metadata__":{"a":1}}', 0), message: /is 1 at 'a'; expected/, key: '__metadata__' },
  { name: 'a huge key', bytes: rawSafetensors(`{"${'k'.repeat(5000)}":1}`, 0), message: /5000 characters long/ },
  { name: 'an entry that is a number', bytes: rawSafetensors('{"x":1}', 0), message: /header entry is 1; expected an object/, key: 'x', offset: 9 },
  { name: 'an entry that is null', bytes: rawSafetensors('{"x":null}', 0), message: /header entry is null/, key: 'x' },
  { name: 'no dtype', bytes: one('"shape":[4],"data_offsets":[0,4]'), message: /dtype is undefined/, key: 'x' },
  { name: 'an unknown dtype', bytes: one('"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]'), message: /dtype is 'F8_E4M3'; expected one of F64/, key: 'x' },
  { name: 'a dtype from the prototype', bytes: one('"dtype":"toString","shape":[4],"data_offsets":[0,4]'), message: /dtype is 'toString'/, key: 'x' },
  { name: 'a lying dtype', bytes: one('"dtype":"F32","shape":[4],"data_offsets":[0,4]'), message: /range of 16 bytes for F32 \[4\]/, key: 'x' },
  { name: 'no shape', bytes: one('"dtype":"U8","data_offsets":[0,4]'), message: /shape is undefined/, key: 'x' },
  { name: 'a wrong shape', bytes: one('"dtype":"U8","shape":[5],"data_offsets":[0,4]'), message: /range of 5 bytes for U8 \[5\]/, key: 'x' },
  { name: 'a negative size', bytes: one('"dtype":"U8","shape":[-4],"data_offsets":[0,4]'), message: /shape is \[-4\]/, key: 'x' },
  { name: 'a fraction', bytes: one('"dtype":"U8","shape":[4.5],"data_offsets":[0,4]'), message: /shape is \[4\.5\]/, key: 'x' },
  { name: 'a size as text', bytes: one('"dtype":"U8","shape":["4"],"data_offsets":[0,4]'), message: /shape is \['4'\]/, key: 'x' },
  { name: 'a size of 2^53 + 1', bytes: one('"dtype":"U8","shape":[9007199254740993],"data_offsets":[0,4]'), message: /shape is \[9007199254740992\]/, key: 'x' },
  { name: 'a size of infinity', bytes: one('"dtype":"U8","shape":[1e999],"data_offsets":[0,4]'), message: /shape is \[Infinity\]/, key: 'x' },
  { name: 'a product above 2^53', bytes: one('"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,4]'), message: /fewer than 2\^53 bytes/, key: 'x' },
  { name: 'a product above 2^64 that wraps to 4', bytes: one('"dtype":"U8","shape":[9007199254740991,9007199254740991,0],"data_offsets":[0,0]'), message: /fewer than 2\^53 bytes/, key: 'x' },
  { name: 'negative offsets', bytes: one('"dtype":"U8","shape":[4],"data_offsets":[-4,0]'), message: /data_offsets is \[-4,0\]/, key: 'x' },
  { name: 'reversed offsets', bytes: one('"dtype":"U8","shape":[4],"data_offsets":[4,0]'), message: /begin not to be after the end/, key: 'x' },
  { name: 'one offset', bytes: one('"dtype":"U8","shape":[4],"data_offsets":[0]'), message: /expected two numbers/, key: 'x' },
  { name: 'three offsets', bytes: one('"dtype":"U8","shape":[4],"data_offsets":[0,4,8]'), message: /expected two numbers/, key: 'x' },
  { name: 'offsets far outside', bytes: one('"dtype":"U8","shape":[4],"data_offsets":[9007199254740000,9007199254740004]'), message: /belong to no tensor/, key: 'x' },
  { name: 'a tensor larger than the file', bytes: one('"dtype":"U8","shape":[1000000000000],"data_offsets":[0,1000000000000]'), message: /data ends at byte/, key: 'x' },
  { name: 'overlapping tensors', bytes: rawSafetensors(`{"x":${u8(0, 4)},"y":${u8(2, 6)}}`, 6), message: /inside another tensor/, key: 'y' },
  { name: 'the same bytes twice', bytes: rawSafetensors(`{"x":${u8(0, 4)},"y":${u8(0, 4)}}`, 4), message: /inside another tensor/, key: 'y' },
  { name: 'an empty tensor inside another', bytes: rawSafetensors(`{"x":${u8(0, 4)},"y":${u8(2, 2)}}`, 4), message: /inside another tensor/, key: 'y' },
  { name: 'a hole', bytes: rawSafetensors(`{"x":${u8(0, 2)},"y":${u8(3, 4)}}`, 4), message: /belong to no tensor/, key: 'y' },
  { name: 'a hole at the start', bytes: rawSafetensors(`{"x":${u8(1, 4)}}`, 4), message: /belong to no tensor/, key: 'x' },
];

describe('hostile files', () => {
  it.each(hostile)('refuses $name, from a file and from memory', async ({ bytes, message, key, offset }) => {
    const fromFile = await checkpointErrorOf(() => readSafetensorsHeader(memoryFile(bytes, 'hostile.safetensors')));
    const fromMemory = await checkpointErrorOf(() => parseSafetensors(bytes, 'hostile.safetensors'));
    for (const error of [fromFile, fromMemory]) {
      expect(error.message).toMatch(message);
      expect(error.file).toBe('hostile.safetensors');
      if (key !== undefined) expect(error.key).toBe(key);
      if (offset !== undefined) expect(error.offset).toBe(offset);
      expect(error.message.length).toBeLessThan(500);
    }
    expect(fromFile.message).toBe(fromMemory.message);
  });

  it('refuses a file cut at any byte', async () => {
    for (let length = 0; length < valid.length; length++) await checkpointErrorOf(() => parseSafetensors(valid.slice(0, length)));
    expect(parseSafetensors(valid).tensors.size).toBe(1);
  });

  it('refuses a header above 100 MB before reading it', async () => {
    const huge = { ...memoryFile(concat(uint64(100_000_001))), sizeBytes: 2 ** 40 };
    expect((await checkpointErrorOf(() => readSafetensorsHeader(huge))).message).toMatch(/100000001 bytes; expected at most 100000000/);
  });
});
