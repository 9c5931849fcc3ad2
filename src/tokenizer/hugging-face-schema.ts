import * as v from 'valibot';
import { checked } from '../util/schema.js';

/** Ids are kept as 32-bit integers, and the library makes arrays as long as the largest id. */
const largestId = 2 ** 24 - 1;
const id = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(largestId));

/** Not `v.record`, which drops the keys `constructor` and `prototype`: the vocabulary of GPT-NeoX has both. */
const vocabulary = v.custom<Record<string, number>>(
  (value) => typeof value === 'object' && value !== null && Object.values(value).every((item) => v.is(id, item)),
  `tokens with ids, integers from 0 to ${largestId}`,
);

const addedToken = v.looseObject({ id, content: v.pipe(v.string(), v.minLength(1)) });

const component = v.nullish(v.looseObject({ type: v.string() }), null);

/** The parts of a tokenizer.json that must be right for the library not to fail in odd ways later. */
const definitionSchema = v.looseObject({
  added_tokens: v.nullish(v.array(addedToken), []),
  normalizer: component,
  pre_tokenizer: component,
  post_processor: component,
  decoder: component,
  model: v.variant('type', [
    v.looseObject({
      type: v.literal('BPE'),
      vocab: vocabulary,
      merges: v.union([v.array(v.string()), v.array(v.tuple([v.string(), v.string()]))]),
    }),
    v.looseObject({ type: v.literal('WordPiece'), vocab: vocabulary }),
    v.looseObject({ type: v.literal('WordLevel'), vocab: vocabulary, unk_token: v.nullish(v.string()) }),
    v.looseObject({ type: v.literal('Unigram'), vocab: v.array(v.tuple([v.string(), v.number()])) }),
  ]),
});

const token = v.union([v.string(), v.looseObject({ content: v.string() })]);

/** The parts of a tokenizer_config.json that are used here. */
const configSchema = v.looseObject({ bos_token: v.nullish(token), eos_token: v.nullish(token) });

/** A checked tokenizer.json. */
export type TokenizerDefinition = v.InferOutput<typeof definitionSchema>;

/** A checked tokenizer_config.json. */
export type TokenizerConfig = v.InferOutput<typeof configSchema>;

/** Checks what was read from a tokenizer.json. @throws CheckpointError naming `file` and the key that is wrong */
export function parseDefinition(value: unknown, file: string): TokenizerDefinition {
  return checked(definitionSchema, withModelType(value), { file }, 'a tokenizer.json as Hugging Face tokenizers saves it');
}

/** Checks what was read from a tokenizer_config.json. @throws CheckpointError naming `file` and the key that is wrong */
export function parseConfig(value: unknown, file: string): TokenizerConfig {
  return checked(configSchema, value, { file }, 'a tokenizer_config.json as transformers saves it');
}

/** Files of early versions do not name the kind of model: it is known by its keys, as the Rust library knows it. */
function withModelType(value: unknown): unknown {
  if (!isObject(value) || !isObject(value['model']) || value['model']['type'] !== undefined) return value;
  const { model } = value;
  const type = 'merges' in model ? 'BPE' : Array.isArray(model['vocab']) ? 'Unigram' : 'max_input_chars_per_word' in model ? 'WordPiece' : 'WordLevel';
  return { ...value, model: { ...model, type } };
}

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value);
