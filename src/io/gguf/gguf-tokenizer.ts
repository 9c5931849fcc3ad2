/** A GGUF file's vocabulary as a tokenizer.json, and back: byte-level BPE, which llama.cpp calls gpt2. */
import { openForReading } from '../checked-file.js';
import { CheckpointError } from '../../util/errors.js';
import { readGgufHeader, type GgufHeader } from './gguf-file.js';
import type { Pairs } from './gguf-writer.js';

/** tokenizer.json and tokenizer_config.json. */
export interface TokenizerFilesContent {
  readonly definition: Readonly<Record<string, unknown>>;
  readonly config: Readonly<Record<string, unknown>>;
}

/** Kinds of tokens. */
const kinds = { normal: 1, control: 3, userDefined: 4, unused: 5 } as const;

/** How Llama 3 cuts a text. */
const llama3Pattern =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

const byteLevel = (useRegex: boolean) => ({ type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: useRegex });
const llama3 = {
  type: 'Sequence',
  pretokenizers: [{ type: 'Split', pattern: { Regex: llama3Pattern }, behavior: 'Isolated', invert: false }, byteLevel(false)],
};

/** How texts are cut, by `tokenizer.ggml.pre`. Files from before that key are of models that cut as GPT-2 does. */
const cuts: Readonly<Record<string, { readonly preTokenizer: object; readonly normalizer: object | null; readonly ignoreMerges: boolean }>> = {
  ...Object.fromEntries(['default', 'gpt-2'].map((pre) => [pre, { preTokenizer: byteLevel(true), normalizer: null, ignoreMerges: false }])),
  // The tokenizer of GPT-NeoX under the names of models that have it.
  ...Object.fromEntries(['olmo', 'mpt'].map((pre) => [pre, { preTokenizer: byteLevel(true), normalizer: { type: 'NFC' }, ignoreMerges: false }])),
  ...Object.fromEntries(['llama-bpe', 'llama3', 'llama-v3'].map((pre) => [pre, { preTokenizer: llama3, normalizer: null, ignoreMerges: true }])),
};

/**
 * The tokenizer in a GGUF file, as the files of a checkpoint's folder say it.
 * @returns undefined where the file has none
 * @throws CheckpointError where it is of another kind than byte-level BPE, or cuts texts in an unknown way
 */
export async function readGgufTokenizer(path: string): Promise<TokenizerFilesContent | undefined> {
  const file = await openForReading(path);
  try {
    return tokenizerOf(await readGgufHeader(file));
  } finally {
    await file.close();
  }
}

function tokenizerOf({ file, metadata }: GgufHeader): TokenizerFilesContent | undefined {
  const at = (name: string) => ({ file, key: `tokenizer.ggml.${name}` });
  const value = (name: string) => metadata.get(`tokenizer.ggml.${name}`);
  const kind = value('model');
  if (kind === undefined || kind === 'none' || kind === 'no_vocab') return undefined;
  if (kind !== 'gpt2') {
    const described = kind === 'llama' ? "'llama', SentencePiece" : JSON.stringify(kind);
    throw new CheckpointError(`is ${described}; expected 'gpt2', byte-level BPE: no other is read. Hint: take the tokenizer.json of the original checkpoint`, at('model'));
  }
  const list = <T extends 'string' | 'number'>(name: string, type: T): (T extends 'string' ? string : number)[] => {
    const items = value(name);
    if (Array.isArray(items) && items.every((item) => typeof item === type)) return items as (T extends 'string' ? string : number)[];
    throw new CheckpointError(`${items === undefined ? 'is missing' : 'is something else'}; expected a list of ${type}s`, at(name));
  };
  const tokens = list('tokens', 'string');
  const types = value('token_type') === undefined ? [] : list('token_type', 'number');
  const pre = value('pre') ?? 'default';
  const cut = typeof pre === 'string' && Object.hasOwn(cuts, pre) ? cuts[pre] : undefined;
  if (cut === undefined) throw new CheckpointError(`is ${JSON.stringify(pre)}; expected one of ${Object.keys(cuts).join(', ')}`, at('pre'));
  const vocab: Record<string, number> = {};
  const added: object[] = [];
  tokens.forEach((content, id) => {
    const type = types[id] ?? kinds.normal;
    if (type === kinds.unused) return;
    if (type === kinds.normal) vocab[content] = id;
    else added.push({ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: type === kinds.control });
  });
  const tokenNamed = (name: string): string | undefined => {
    const id = value(`${name}_token_id`);
    if (id === undefined) return undefined;
    const token = tokens[Number(id)];
    if (token === undefined) throw new CheckpointError(`is ${JSON.stringify(id)}; expected an id below ${tokens.length}, the number of tokens`, at(`${name}_token_id`));
    return token;
  };
  const [begin, end] = [tokenNamed('bos'), tokenNamed('eos')];
  const model = { type: 'BPE', dropout: null, unk_token: null, continuing_subword_prefix: null, end_of_word_suffix: null, fuse_unk: false, ignore_merges: cut.ignoreMerges };
  return {
    definition: {
      ...{ version: '1.0', truncation: null, padding: null, added_tokens: added, normalizer: cut.normalizer, pre_tokenizer: cut.preTokenizer },
      post_processor: value('add_bos_token') === true && begin !== undefined ? beginsWith(begin, Number(value('bos_token_id'))) : null,
      decoder: byteLevel(true),
      model: { ...model, vocab, merges: list('merges', 'string') },
    },
    config: { ...(begin === undefined ? {} : { bos_token: begin }), ...(end === undefined ? {} : { eos_token: end }) },
  };
}

/** Puts a token before every text. */
const beginsWith = (token: string, id: number) => ({
  type: 'TemplateProcessing',
  single: [{ SpecialToken: { id: token, type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
  pair: [{ SpecialToken: { id: token, type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 1 } }],
  special_tokens: { [token]: { id: token, ids: [id], tokens: [token] } },
});

/**
 * Metadata of a tokenizer.
 * @param vocabularySize of the model; ids without a token become unused ones
 * @throws CheckpointError where the tokenizer is no byte-level BPE, or cuts texts in a way that llama.cpp has no name for here
 */
export function tokenizerPairs({ definition, config }: TokenizerFilesContent, vocabularySize: number, file: string): Pairs {
  const json = definition as {
    readonly model: { readonly type?: string; readonly vocab: Record<string, number>; readonly merges: (string | string[])[] };
    readonly added_tokens?: { readonly id: number; readonly content: string; readonly special?: boolean }[] | null;
    readonly decoder?: { readonly type: string } | null;
    readonly post_processor?: { readonly type: string } | null;
  };
  const { model, added_tokens: added } = json;
  if (json.decoder?.type !== 'ByteLevel' || (model.type !== undefined && model.type !== 'BPE')) {
    throw new CheckpointError('is no byte-level BPE; expected one: GGUF is written with no other tokenizer', { file, key: 'model' });
  }
  const pre = cutNamed(definition);
  if (pre === undefined) throw new CheckpointError("cuts texts in another way; expected GPT-2's, GPT-NeoX's or Llama 3's", { file, key: 'pre_tokenizer' });
  const tokens = Array.from({ length: vocabularySize }, (_, id) => `[PAD${id}]`);
  const types: number[] = tokens.map(() => kinds.unused);
  const set = (id: number, content: string, type: number) => {
    if (id >= vocabularySize) throw new CheckpointError(`the tokenizer has the id ${id}, but the model only ${vocabularySize} ids`, { file });
    tokens[id] = content;
    types[id] = type;
  };
  for (const [content, id] of Object.entries(model.vocab)) set(id, content, kinds.normal);
  for (const { id, content, special } of added ?? []) set(id, content, special === true ? kinds.control : kinds.userDefined);
  const idNamed = (name: string): [string, number][] => {
    const token = config[`${name}_token`] as string | { content: string } | null | undefined;
    if (token === null || token === undefined) return [];
    const id = tokens.indexOf(typeof token === 'string' ? token : token.content);
    return id < 0 ? [] : [[`tokenizer.ggml.${name}_token_id`, id]];
  };
  return [
    ['tokenizer.ggml.model', 'gpt2'],
    ['tokenizer.ggml.pre', pre],
    ['tokenizer.ggml.tokens', tokens],
    ['tokenizer.ggml.token_type', types],
    ['tokenizer.ggml.merges', model.merges.map((pair) => (typeof pair === 'string' ? pair : pair.join(' ')))],
    ...idNamed('bos'),
    ...idNamed('eos'),
    ['tokenizer.ggml.add_bos_token', json.post_processor?.type === 'TemplateProcessing'],
  ];
}

/** What llama.cpp calls the way in which a tokenizer.json cuts texts. */
function cutNamed(definition: Readonly<Record<string, unknown>>): string | undefined {
  const { pre_tokenizer: cut, normalizer } = definition as { readonly pre_tokenizer?: { type: string; use_regex?: boolean; add_prefix_space?: boolean } | null; readonly normalizer?: { type: string } | null };
  if (cut?.type === 'ByteLevel' && cut.use_regex !== false && cut.add_prefix_space !== true) {
    if (normalizer === null || normalizer === undefined) return 'gpt-2';
    return normalizer.type === 'NFC' ? 'olmo' : undefined;
  }
  return (normalizer ?? null) === null && JSON.stringify(cut).includes(JSON.stringify(llama3Pattern)) ? 'llama-bpe' : undefined;
}
