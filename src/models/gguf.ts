/** Models as GGUF files, which llama.cpp reads. */
import { platform } from '#platform';
import { architectures, Hyperparameters, type TensorRule } from '../io/gguf/architectures.js';
import { encodeBlocks, type GgufType } from '../io/gguf/blocks.js';
import { inOrder } from '../io/gguf/gguf-checkpoint.js';
import type { GgufValue } from '../io/gguf/gguf-file.js';
import { tokenizerPairs, type TokenizerFilesContent } from '../io/gguf/gguf-tokenizer.js';
import { ggufChunks, type GgufSource, type Pairs } from '../io/gguf/gguf-writer.js';
import { isPacked, type Tensor } from '../tensor/index.js';
import { ArgumentError, describeValue } from '../util/errors.js';
import type { GptNeoxConfig } from './gpt-neox/family.js';
import type { LanguageModel } from './language-model.js';
import type { MambaConfig } from './mamba/config.js';
import type { Mamba2Config } from './mamba2/config.js';
import type { TransformerConfig } from './transformer-layers.js';

/** The types in which `saveGguf` stores matrices. */
export const ggufTypes: readonly GgufType[] = ['f32', 'f16', 'q8_0'];

/** How `saveGguf` writes. */
export interface GgufOptions {
  /**
   * Of the matrices; all else is in f32. In q8_0 (blocks of 32 in 8 bits), a matrix whose rows are no multiple of 32 long is in f16.
   * Default: 'f32'.
   */
  readonly type?: GgufType | undefined;
  /**
   * The parsed tokenizer.json and tokenizer_config.json. Default: the file has no tokenizer, and other programs can run it on ids alone.
   */
  readonly tokenizer?: TokenizerFilesContent | undefined;
}

/** What a model is called in GGUF, and its sizes there. */
interface Description {
  readonly architecture: string;
  /** Whole numbers, flags, texts. */
  readonly sizes: Readonly<Record<string, number | boolean | string>>;
  readonly reals: Readonly<Record<string, number>>;
}

/** A Mamba reads any length. */
const anyLength = 2 ** 20;
/** The largest float16, and what still rounds to it. */
const beyondHalf = 65520;

/**
 * Saves a model as one GGUF file: of the families `mamba`, `mamba2`, `transformer` and `gpt-neox`, as llama.cpp computes them.
 * @throws ArgumentError where llama.cpp has no such model, the weights are packed, one is beyond the numbers of the type, or the model is
 *   trained while it is read
 * @throws CheckpointError where the tokenizer is no byte-level BPE
 * @throws FileError where the file cannot be written; an earlier one is then as it was
 */
export async function saveGguf(model: LanguageModel, path: string, { type = 'f32', tokenizer }: GgufOptions = {}): Promise<void> {
  if (!ggufTypes.includes(type)) throw refused('type', ggufTypes.join(', '), describeValue(type));
  if (!path.endsWith('.gguf')) throw refused('path', 'a name that ends in .gguf', `'${path}'`);
  const { vocabularySize, endOfText } = model.config;
  const { architecture: name, sizes, reals } = describe(model);
  const tensors = new Map(model.parameters.map(({ key, tensor }) => [key, tensor] as const));
  const values = new Map<string, GgufValue>([...Object.entries(sizes), ...Object.entries(reals)].map(([key, value]) => [`${name}.${key}`, value]));
  const rules = architectures.get(name)?.tensors(new Hyperparameters(path, name, values, vocabularySize, () => false)) ?? [];
  const { version } = model;
  const sources: GgufSource[] = [];
  for (const rule of rules) {
    const tensor = tensors.get(rule.key) ?? tensors.get(rule.otherwise ?? '');
    if (tensor !== undefined) sources.push(await sourceOf(rule, tensor, type));
    else if (rule.optional !== true) throw refused('the model', `a parameter ${rule.key}, which ${name} has in llama.cpp`, 'none');
  }
  model.expectUnchanged('saveGguf', version);
  const vocabulary = vocabularyPairs(vocabularySize, tokenizer, path);
  const [end] = endOfText;
  const endKey = 'tokenizer.ggml.eos_token_id';
  const pairs: Pairs = [
    ['general.architecture', name],
    ['general.name', name],
    ['general.file_type', { f32: 0, f16: 1, q8_0: 7 }[type]],
    ...Object.entries(sizes).map(([key, value]) => [`${name}.${key}`, value] as const),
    ...Object.entries(reals).map(([key, f32]) => [`${name}.${key}`, { f32 }] as const),
    ...vocabulary.filter(([key]) => key !== endKey || end === undefined),
    ...(end === undefined ? [] : [[endKey, end] as const]),
    // Another id that ends a text is what llama.cpp takes for the end of a turn.
    ...(endOfText[1] === undefined ? [] : [['tokenizer.ggml.eot_token_id', endOfText[1]] as const]),
  ];
  await platform.writeFileAtomically(path, ggufChunks(pairs, sources));
}

async function sourceOf({ name, key, shape, matrix, rows, negativeExponential = false }: TensorRule, tensor: Tensor, wanted: GgufType): Promise<GgufSource> {
  if (isPacked(tensor.dtype)) throw refused('the model', 'weights in float32. Hint: export the checkpoint that it was packed from', `${key} in ${tensor.dtype}`);
  let values = Float32Array.from(await tensor.data());
  if (negativeExponential) values = values.map((x) => -Math.exp(x));
  if (rows !== undefined) values = inOrder(values, rows(), 'of the file') as Float32Array<ArrayBuffer>;
  const type = !matrix ? 'f32' : wanted === 'q8_0' && (shape.at(-1) ?? 0) % 32 !== 0 ? 'f16' : wanted;
  // A block's scale in q8_0 is a half: a 127th of its largest number.
  const most = type === 'f32' ? Infinity : type === 'f16' ? beyondHalf : 127 * beyondHalf;
  const beyond = values.find((x) => !(Math.abs(x) < most));
  if (beyond !== undefined) throw refused(key, `numbers of ${type}`, String(beyond));
  return { name, shape, type, bytes: encodeBlocks(values, type) };
}

function vocabularyPairs(vocabularySize: number, tokenizer: TokenizerFilesContent | undefined, path: string): Pairs {
  if (tokenizer !== undefined) return tokenizerPairs(tokenizer, vocabularySize, path);
  return [['tokenizer.ggml.model', 'none']];
}

/** @throws ArgumentError where llama.cpp has no such model */
function describe({ family, config }: LanguageModel): Description {
  const own: Readonly<Record<string, (config: never) => Description>> = { mamba, mamba2, transformer: llama, 'gpt-neox': gptNeox };
  const known = own[family.name];
  if (known === undefined) throw refused('the model', `one of the families ${Object.keys(own).join(', ')}`, `family '${family.name}'`);
  return known(config as never);
}

const refused = (argument: string, expected: string, got: string): ArgumentError => new ArgumentError({ operation: 'saveGguf', argument, expected, got });

/** @param settings by name: what the config says, and what llama.cpp's model has */
function expectEach(settings: Readonly<Record<string, readonly [own: unknown, only: unknown]>>): void {
  for (const [name, [value, only]] of Object.entries(settings)) {
    if (JSON.stringify(value) !== JSON.stringify(only)) throw refused(name, `${JSON.stringify(only)}: llama.cpp has no other such model`, describeValue(value));
  }
}

const recurrent = { context_length: anyLength, feed_forward_length: 0, 'attention.head_count': 0 };

function mamba(config: MambaConfig): Description {
  expectEach({ norm: [config.norm, 'rms'], ssm: [config.ssm, 's6'], projectionBias: [config.projectionBias, false], convBias: [config.convBias, true] });
  return {
    architecture: 'mamba',
    sizes: {
      ...{ ...recurrent, embedding_length: config.dModel, block_count: config.layers, vocab_size: config.vocabularySize },
      ...{ 'ssm.conv_kernel': config.dConv, 'ssm.inner_size': config.dInner, 'ssm.state_size': config.dState, 'ssm.time_step_rank': config.dtRank },
    },
    reals: { 'attention.layer_norm_rms_epsilon': config.normEpsilon },
  };
}

function mamba2(config: Mamba2Config): Description {
  const { groups, gatedNorm, dtLimit } = config;
  expectEach({
    ...{ norm: [config.norm, 'rms'], projectionBias: [config.projectionBias, false], convBias: [config.convBias, true], attentionLayers: [config.attentionLayers, []] },
    ...{ inner: [config.inner, 0], dSsm: [config.dSsm, config.dInner], skipPerChannel: [config.skipPerChannel, false], gatedNorm: [gatedNorm === null, false] },
    ...{ 'gatedNorm.groups': [gatedNorm?.groups, groups], 'gatedNorm.normBeforeGate': [gatedNorm?.normBeforeGate, false] },
    ...{ 'gatedNorm.epsilon': [gatedNorm?.epsilon, config.normEpsilon], 'dtLimit[0]': [dtLimit[0], 0], 'dtLimit[1]': [String(dtLimit[1]), 'Infinity'] },
  });
  return {
    architecture: 'mamba2',
    sizes: {
      ...{ ...recurrent, embedding_length: config.dModel, block_count: config.layers, vocab_size: config.vocabularySize },
      ...{ 'ssm.conv_kernel': config.dConv, 'ssm.inner_size': config.dInner, 'ssm.state_size': config.dState },
      ...{ 'ssm.time_step_rank': config.dInner / config.headSize, 'ssm.group_count': groups },
    },
    reals: { 'attention.layer_norm_rms_epsilon': config.normEpsilon },
  };
}

/** Sizes of layers with attention. */
function attention(config: TransformerConfig): Pick<Description, 'sizes' | 'reals'> {
  const { rotary, window } = config;
  if (rotary === null || rotary.scaling?.kind === 'llama3') throw refused('rotary', 'a rotary embedding, unscaled or linear', rotary === null ? 'none' : "'llama3'");
  expectEach({ window: [window ?? null, null] });
  return {
    sizes: {
      ...{ context_length: config.contextLength, embedding_length: config.dModel, feed_forward_length: config.inner, block_count: config.layers },
      ...{ vocab_size: config.vocabularySize, 'attention.head_count': config.heads, 'attention.head_count_kv': config.kvHeads },
      ...{ 'attention.key_length': config.headSize, 'attention.value_length': config.headSize, 'rope.dimension_count': rotary.size },
      ...(rotary.scaling === null ? {} : { 'rope.scaling.type': 'linear' }),
    },
    reals: { 'rope.freq_base': rotary.base, ...(rotary.scaling === null ? {} : { 'rope.scaling.factor': rotary.scaling.factor }) },
  };
}

function llama(config: TransformerConfig): Description {
  const { sizes, reals } = attention(config);
  expectEach({ 'rotary.size': [config.rotary?.size, config.headSize], activation: [config.activation, 'silu'] });
  return { architecture: 'llama', sizes, reals: { ...reals, 'attention.layer_norm_rms_epsilon': config.normEpsilon } };
}

function gptNeox(config: GptNeoxConfig): Description {
  const { sizes, reals } = attention(config);
  expectEach({ inputBias: [config.inputBias, true], outputBias: [config.outputBias, true] });
  if (config.activation !== 'gelu' && config.activation !== 'geluTanh') throw refused('activation', 'GELU: llama.cpp has no other such model', config.activation);
  return { architecture: 'gptneox', sizes: { ...sizes, use_parallel_residual: config.parallelResidual }, reals: { ...reals, 'attention.layer_norm_epsilon': config.normEpsilon } };
}
