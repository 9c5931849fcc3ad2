import { platform } from '#platform';
import * as v from 'valibot';
import { readJsonFile } from '../io/json-file.js';
import type { AbortSignalLike } from '../util/abort-signal.js';
import { ArgumentError, CheckpointError } from '../util/errors.js';
import { checked } from '../util/schema.js';
import type { DocumentSource, TokenDocument } from './documents.js';
import { hashBytes, hashSeed } from './line-scan.js';
import { encodeShard, openShard, type Shard } from './shard-file.js';

/** The file that makes a folder one of token shards; written last, so that a folder that has it is whole. */
export const shardIndexName = 'tokens.json';

const indexSchema = v.object({
  format: v.literal('elapid-tokens'),
  vocabularySize: v.pipe(v.number(), v.integer(), v.minValue(1)),
  shards: v.array(v.pipe(v.string(), v.regex(/^[\w.-]+$/))),
});

/** What `writeTokenShards` wrote. */
export interface ShardTotals {
  readonly documents: number;
  readonly tokens: number;
  readonly shards: number;
}

/**
 * Writes the documents of `source`, in order, as token shards into `folder`; documents without tokens are left out.
 * @param options.vocabularySize every token is below it; 256 and less make shards of one byte a token, up to 65536 of two
 * @param options.shardTokens a shard ends with the document that reaches this many tokens (default 2²⁵); one is in memory
 * @throws ArgumentError where the folder holds shards already, or no document has a token
 */
export async function writeTokenShards(
  source: DocumentSource,
  folder: string,
  options: { vocabularySize: number; shardTokens?: number; onDocument?: (totals: ShardTotals) => void; signal?: AbortSignalLike },
): Promise<ShardTotals> {
  const { vocabularySize, shardTokens = 2 ** 25, onDocument, signal } = options;
  const operation = 'writeTokenShards';
  const indexFile = platform.joinPath(folder, shardIndexName);
  if ((await platform.pathKind(indexFile)) !== undefined) {
    throw new ArgumentError({ operation, argument: folder, expected: 'a new folder', got: 'a folder of token shards already' });
  }
  await platform.makeFolder(folder);
  const shards: string[] = [];
  let [documents, tokens, pending] = [0, 0, 0];
  let waiting: ArrayLike<number>[] = [];
  const flush = async () => {
    if (waiting.length === 0) return;
    const name = `${String(shards.length).padStart(5, '0')}.tokens`;
    await platform.writeFileAtomically(platform.joinPath(folder, name), await encodeShard(waiting, vocabularySize));
    shards.push(name);
    [waiting, pending] = [[], 0];
  };
  for (let i = 0; i < source.count; i++) {
    signal?.throwIfAborted();
    const document = await source.open(i);
    if (document.length === 0) continue;
    waiting.push(compact(await document.read(0, document.length), vocabularySize));
    documents++;
    tokens += document.length;
    pending += document.length;
    if (pending >= shardTokens) await flush();
    onDocument?.({ documents, tokens, shards: shards.length });
  }
  await flush();
  if (documents === 0) {
    throw new ArgumentError({ operation, argument: 'source', expected: 'documents with tokens', got: 'empty' });
  }
  const index = { format: 'elapid-tokens', vocabularySize, shards };
  await platform.writeFileAtomically(indexFile, [new TextEncoder().encode(`${JSON.stringify(index, null, 2)}\n`)]);
  return { documents, tokens, shards: shards.length };
}

/** Held until a shard is full: in a byte or two a token where they fit. */
function compact(tokens: ArrayLike<number>, vocabularySize: number): ArrayLike<number> {
  if (vocabularySize <= 2 ** 8) return Uint8Array.from(tokens);
  return vocabularySize <= 2 ** 16 ? Uint16Array.from(tokens) : tokens;
}

/** Token shards, open for reading. */
export interface ShardSource extends DocumentSource {
  readonly vocabularySize: number;
  readonly tokens: number;
}

/**
 * Opens a folder that `writeTokenShards` wrote. In memory are 20 bytes a document, and 64 KiB of each that is being read:
 * neither the corpus nor a document needs to fit. What is read is compared with its checksum; shards of before there were any are read as they are.
 * @throws CheckpointError naming the file and the byte where it is damaged
 */
export async function openTokenShards(folder: string): Promise<ShardSource> {
  const { vocabularySize, shards: names } = await readIndex(platform.joinPath(folder, shardIndexName));
  const shards: Shard[] = [];
  const first: number[] = [];
  let [count, tokens, hash] = [0, 0, hashSeed];
  const close = async () => {
    for (const { file } of shards) await file.close();
  };
  try {
    for (const name of names) {
      const shard = await openShard(platform.joinPath(folder, name), vocabularySize);
      shards.push(shard);
      first.push(count);
      count += shard.documents;
      tokens += shard.tokens;
      hash = hashBytes(new TextEncoder().encode(`${shard.checksum} ${shard.documents} `), hash);
    }
  } catch (error) {
    await close();
    throw error;
  }
  return {
    count,
    tokens,
    vocabularySize,
    fingerprint: `${count} documents of ${tokens} tokens ${(hash >>> 0).toString(16)}`,
    open(index): Promise<TokenDocument> {
      const which = first.findLastIndex((start) => start <= index);
      const shard = shards[which];
      const inside = index - (first[which] ?? 0);
      if (shard === undefined || inside >= shard.documents) {
        const problem = { operation: 'openTokenShards', argument: 'index', expected: `in [0, ${count})`, got: String(index) };
        return Promise.reject(new ArgumentError(problem));
      }
      return Promise.resolve(shard.open(inside));
    },
    close,
  };
}

async function readIndex(file: string): Promise<v.InferOutput<typeof indexSchema>> {
  if ((await platform.pathKind(file)) !== 'file') {
    throw new CheckpointError('is missing; expected a folder that elapid tokenize --out finished', { file });
  }
  return checked(indexSchema, (await readJsonFile(file)).value, { file });
}
