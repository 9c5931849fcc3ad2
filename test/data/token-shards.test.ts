import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { openTokenShards, PackedSampler, writeTokenShards } from '../../src/data/index.js';
import { ArgumentError, CheckpointError } from '../../src/util/errors.js';
import { countReads } from '../support/counted-reads.js';
import { MemoryDocuments, randomDocuments } from '../support/documents.js';
import { useFolder } from '../support/folders.js';

const folder = useFolder();
afterEach(() => void vi.restoreAllMocks());
const lengths = [3, 1, 0, 50, 7, 1000, 2];

describe.each([
  { vocabularySize: 256, bytes: 1 },
  { vocabularySize: 50_000, bytes: 2 },
  { vocabularySize: 70_000, bytes: 4 },
])('token shards of $bytes bytes a token', ({ vocabularySize, bytes }) => {
  const documents = randomDocuments(lengths, vocabularySize);
  const whole = documents.filter(({ length }) => length > 0);
  const at = (name: string) => folder(`${name}${bytes}`);

  test('give back the documents, whole and in parts', async () => {
    const totals = await writeTokenShards(new MemoryDocuments(documents), at('round'), { vocabularySize, shardTokens: 40 });
    expect(totals).toEqual({ documents: 6, tokens: 1063, shards: 3 });
    expect(readdirSync(at('round')).sort()).toEqual(['00000.tokens', '00001.tokens', '00002.tokens', 'tokens.json']);
    const source = await openTokenShards(at('round'));
    expect([source.count, source.tokens, source.vocabularySize]).toEqual([6, 1063, vocabularySize]);
    for (const [i, expected] of whole.entries()) {
      const document = await source.open(i);
      expect(document.length).toBe(expected.length);
      expect(Int32Array.from(await document.read(0, document.length))).toEqual(expected);
      for (const [low, high] of [[0.3, 0.5], [0.5, 1], [0, 0.4], [0, 0]] as const) {
        const [from, to] = [Math.floor(low * document.length), Math.ceil(high * document.length)];
        expect(Int32Array.from(await document.read(from, to))).toEqual(expected.slice(from, to));
      }
    }
    await source.close();
    const size = readFileSync(folder(`round${bytes}`, '00000.tokens')).length;
    expect(size).toBe(64 + 8 * 4 + 4 * 3 + 54 * bytes);
  });

  test('make the same batches as the documents in memory', async () => {
    await writeTokenShards(new MemoryDocuments(whole), at('batches'), { vocabularySize });
    const source = await openTokenShards(at('batches'));
    const options = { batchSize: 2, length: 13, seed: 3 };
    const [fromDisk, fromMemory] = [new PackedSampler(source, options), new PackedSampler(new MemoryDocuments(whole), options)];
    for (let i = 0; i < 100; i++) expect(await fromDisk.next()).toEqual(await fromMemory.next());
    await source.close();
  });
});

describe('token shards', () => {
  test('read the documents that rows are in, 64 KiB of each at most, however large corpus and documents are', async () => {
    const reads: Record<number, { bytes: number; longest: number }> = {};
    for (const scale of [1, 200]) {
      const name = folder(`scale${scale}`);
      await writeTokenShards(new MemoryDocuments(randomDocuments(Array<number>(20).fill(500 * scale))), name, { vocabularySize: 256, shardTokens: 5000 * scale });
      const source = await openTokenShards(name);
      await source.close();
      const counted = countReads();
      const again = await openTokenShards(name);
      const [opening, pieces] = [counted.bytes, counted.count];
      // Of the index its start, then all of it. Ten documents a shard, each a piece, or two.
      expect(opening).toBe(2 * statSync(`${name}/tokens.json`).size + 2 * (64 + 8 * 11 + 4 * 10 * (scale === 1 ? 1 : 2)));
      expect(pieces).toBe(2 + 6);
      const sampler = new PackedSampler(again, { batchSize: 4, length: 100, seed: 1 });
      for (let i = 0; i < 4; i++) await sampler.next();
      reads[scale] = { bytes: counted.bytes - opening, longest: counted.longest };
      await again.close();
      expect(counted.closed).toBe(counted.opened);
      vi.restoreAllMocks();
    }
    expect(reads[1]).toEqual({ bytes: 4 * 500, longest: 500 });
    expect(reads[200]).toEqual({ bytes: 4 * 65_536, longest: 65_536 });
  });

  test('write to a new folder only', async () => {
    const source = new MemoryDocuments(randomDocuments([5]));
    await writeTokenShards(source, folder('twice'), { vocabularySize: 256 });
    await expect(writeTokenShards(source, folder('twice'), { vocabularySize: 256 })).rejects.toThrow(/already; expected a new folder/);
    await expect(writeTokenShards(new MemoryDocuments(randomDocuments([0])), folder('none'), { vocabularySize: 256 })).rejects.toThrow(ArgumentError);
  });

  const patch = (offset: number, ...values: number[]) => (bytes: Uint8Array) => {
    bytes.set(values, offset);
    return bytes;
  };
  /** A shard as it was before there were checksums of pieces. */
  const asVersion1 = (bytes: Uint8Array): Uint8Array => {
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    const tables = 64 + 8 * (Number(view.getBigUint64(16, true)) + 1);
    const tokens = Number(view.getBigUint64(24, true)) * view.getUint32(12, true);
    view.setUint32(8, 1, true);
    return new Uint8Array([...bytes.subarray(0, tables), ...bytes.subarray(bytes.length - tokens)]);
  };
  const readShards = async (place: string) => {
    const source = await openTokenShards(place);
    try {
      const read: Int32Array[] = [];
      for (let i = 0; i < source.count; i++) {
        const document = await source.open(i);
        read.push(Int32Array.from(await document.read(0, document.length)));
      }
      return read;
    } finally {
      await source.close();
    }
  };

  test('of version 1 are read as they are', async () => {
    const documents = randomDocuments([4, 70_000, 5]);
    await writeTokenShards(new MemoryDocuments(documents), folder('version1'), { vocabularySize: 256 });
    const file = `${folder('version1')}/00000.tokens`;
    writeFileSync(file, asVersion1(new Uint8Array(readFileSync(file))));
    expect(await readShards(folder('version1'))).toEqual(documents);
  });

  test('tell a flipped bit anywhere but in the zeros', async () => {
    const place = folder('flipped');
    await writeTokenShards(new MemoryDocuments(randomDocuments([4, 5])), place, { vocabularySize: 256 });
    const file = `${place}/00000.tokens`;
    const good = new Uint8Array(readFileSync(file));
    expect(good.length).toBe(64 + 8 * 3 + 4 * 2 + 9);
    for (let at = 0; at < good.length; at++) {
      if (at >= 40 && at < 64) continue;
      const bytes = good.slice();
      bytes[at] = (bytes[at] ?? 0) ^ (1 << (at % 8));
      writeFileSync(file, bytes);
      await expect(readShards(place), `byte ${at}`).rejects.toThrow(CheckpointError);
      if (at >= good.length - 5) await expect(readShards(place)).rejects.toThrow(/00000\.tokens, byte 100: tokens of document 1 are damaged: .* Hint: copy the file again/);
    }
  });

  test('verify a long document piece by piece', async () => {
    const place = folder('pieces');
    await writeTokenShards(new MemoryDocuments(randomDocuments([10, 200_000], 50_000)), place, { vocabularySize: 50_000 });
    const file = `${place}/00000.tokens`;
    const bytes = new Uint8Array(readFileSync(file));
    bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
    writeFileSync(file, bytes);
    const source = await openTokenShards(place);
    const long = await source.open(1);
    // 400,000 bytes are 7 pieces: the last has 6,784.
    expect((await long.read(0, 200_000 - 3392)).length).toBe(200_000 - 3392);
    const begin = bytes.length - 6784;
    await expect(long.read(199_990, 200_000)).rejects.toThrow(new RegExp(`byte ${begin}: tokens of document 1 are damaged`));
    await source.close();
  });

  test.each<[string, (bytes: Uint8Array) => Uint8Array, RegExp]>([
    ['an empty file', () => new Uint8Array(0), /00000\.tokens, byte 0: the file has 0 bytes/],
    ['other letters', patch(0, 0x20), /byte 0: expected the letters ELTOKENS/],
    ['another version', patch(8, 3), /byte 8: version 3; expected 1 or 2/],
    ['an unknown width', patch(12, 3), /byte 12: 3 bytes a token/],
    ['a count beyond the file', patch(16, 200), /byte 16: 200 documents of 9 tokens take/],
    ['a count beyond any file', patch(23, 255), /byte 16: .* but the file has/],
    ['a file cut short', (bytes) => bytes.slice(0, -1), /byte 16: 2 documents of 9 tokens take 97 bytes, but the file has 96/],
    ['offsets out of order', patch(72, 10), /byte 72: document 1 begins at token 10, out of order/],
    ['a first document not at 0', patch(64, 1), /byte 64: document 0 begins at token 1/],
    ['an end before the tokens’', patch(80, 8), /byte 80: document 2 begins at token 8/],
    ['a token outside the vocabulary', patch(90, 29), /byte 90: token 29; expected one in \[0, 29\)/],
  ])('refuse %s', async (name, change, message) => {
    const place = folder(name.replaceAll(/\W/g, '-'));
    await writeTokenShards(new MemoryDocuments(randomDocuments([4, 5])), place, { vocabularySize: 29 });
    const file = `${place}/00000.tokens`;
    // Of version 1, since checksums would catch most of it first.
    writeFileSync(file, change(asVersion1(new Uint8Array(readFileSync(file)))));
    const counted = countReads();
    const reading = (async () => {
      const source = await openTokenShards(place);
      try {
        for (let i = 0; i < source.count; i++) await (await source.open(i)).read(0, 4);
      } finally {
        await source.close();
      }
    })();
    await expect(reading).rejects.toThrow(CheckpointError);
    await expect(reading).rejects.toThrow(message);
    expect(counted.closed).toBe(counted.opened);
  });

  test.each([
    ['{"format":"other","vocabularySize":9,"shards":[]}', /tokens\.json, key 'format'/],
    ['{"format":"elapid-tokens","vocabularySize":9,"shards":["../a"]}', /tokens\.json, key 'shards\.0'/],
    ['{', /tokens\.json, byte 0: the text is not valid JSON/],
  ])('refuse the index %s', async (content, message) => {
    const source = new MemoryDocuments(randomDocuments([4]));
    const place = folder(`index-${content.length}`);
    await writeTokenShards(source, place, { vocabularySize: 29 });
    writeFileSync(`${place}/tokens.json`, content);
    await expect(openTokenShards(place)).rejects.toThrow(message);
    await expect(openTokenShards(folder('absent'))).rejects.toThrow(/absent\/tokens\.json: is missing; expected a folder that elapid tokenize/);
  });
});

describe('a document longer than what is read at a time', () => {
  test.each([256, 50_000])('is the same in rows as in memory: vocabulary %d', async (vocabularySize) => {
    const documents = randomDocuments([70_001, 140_000], vocabularySize);
    const place = folder(`long${vocabularySize}`);
    await writeTokenShards(new MemoryDocuments(documents), place, { vocabularySize });
    const source = await openTokenShards(place);
    const options = { batchSize: 2, length: 999, seed: 3 };
    const [fromDisk, fromMemory] = [new PackedSampler(source, options), new PackedSampler(new MemoryDocuments(documents), options)];
    for (let i = 0; i < 150; i++) expect(await fromDisk.next()).toEqual(await fromMemory.next());
    await source.close();
  });
});
