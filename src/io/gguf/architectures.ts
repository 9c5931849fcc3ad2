/**
 * The architectures of GGUF that are read and written: what they call sizes and tensors, beside the words of config.json and
 * checkpoints. Source: llama.cpp's `convert_hf_to_gguf.py`, `llama-arch.cpp` and the graphs of these models.
 */
import { CheckpointError } from '../../util/errors.js';
import type { GgufValue } from './gguf-file.js';

/** A tensor of an architecture. Shapes are row-major; extents of 1 do not matter. */
export interface TensorRule {
  readonly name: string;
  /** In a checkpoint. */
  readonly key: string;
  readonly shape: readonly number[];
  /** Of the checkpoint's tensor, where it is another. */
  readonly modelShape?: readonly number[];
  /** A matrix may be stored in fewer bits; all else is in float32. */
  readonly matrix: boolean;
  /** The checkpoint's row for each row of the file, where their order differs; asked for when the shape has been checked. */
  readonly rows?: () => readonly number[];
  /** The file holds −exp(x). */
  readonly negativeExponential?: boolean;
  /** A model may be without it. */
  readonly optional?: boolean;
  /** What the file holds where the model has no such tensor. */
  readonly otherwise?: string;
}

type Words = Readonly<Record<string, unknown>>;

export interface Architecture {
  /** A config.json. @throws CheckpointError where a key is missing or wrong, or asks for what the family is not */
  config(sizes: Hyperparameters): Words;
  tensors(sizes: Hyperparameters): readonly TensorRule[];
}

/** The hyper-parameters of a model by their names in GGUF, without the architecture's. */
export class Hyperparameters {
  /**
   * @param vocabularySize V: the rows of the embedding
   * @param has whether the model has a tensor
   */
  constructor(
    readonly file: string,
    readonly architecture: string,
    private readonly values: ReadonlyMap<string, GgufValue>,
    readonly vocabularySize: number,
    readonly has: (name: string) => boolean,
  ) {}

  private take<T>(name: string, expected: string, fits: (value: unknown) => boolean, otherwise: T | undefined): T {
    const key = `${this.architecture}.${name}`;
    const value: unknown = this.values.get(key) ?? otherwise;
    if (fits(value)) return value as T;
    const problem = value === undefined ? 'is missing' : Array.isArray(value) ? 'is a list' : `is ${JSON.stringify(value)}`;
    throw new CheckpointError(`${problem}; expected ${expected}`, { file: this.file, key });
  }

  size(name: string, otherwise?: number): number {
    // Bounded here, since lists are made of it.
    return this.take(name, 'a whole number from 1 to 2^24', (value) => Number.isInteger(value) && (value as number) >= 1 && (value as number) <= 2 ** 24, otherwise);
  }
  real(name: string, otherwise?: number): number {
    const value = this.take(name, 'a positive number', (one) => typeof one === 'number' && Number.isFinite(one) && one > 0, otherwise);
    // A float32, in the fewest digits that say it: 1e-5, not 0.000009999999747378752.
    return Math.fround(value) === value ? Number(value.toPrecision(7)) : value;
  }
  flag(name: string, otherwise?: boolean): boolean {
    return this.take(name, 'true or false', (value) => typeof value === 'boolean', otherwise);
  }
  get layers(): number {
    const layers = this.size('block_count');
    if (layers <= 4096) return layers;
    throw new CheckpointError(`is ${layers}; expected at most 4096`, { file: this.file, key: `${this.architecture}.block_count` });
  }
  /** @throws CheckpointError where a key has another value than those */
  expect(name: string, ...fitting: readonly GgufValue[]): void {
    const key = `${this.architecture}.${name}`;
    const value = this.values.get(key);
    if (value === undefined || fitting.includes(value)) return;
    throw new CheckpointError(`is ${JSON.stringify(value)}; expected ${fitting.map((one) => JSON.stringify(one)).join(' or ')}: nothing else is supported`, { file: this.file, key });
  }
}

const matrix = (name: string, key: string, shape: readonly number[], more: Partial<TensorRule> = {}): TensorRule => ({ name, key, shape, matrix: true, ...more });
const vector = (name: string, key: string, shape: readonly number[], more: Partial<TensorRule> = {}): TensorRule => ({ name, key, shape, matrix: false, ...more });
const eachLayer = (h: Hyperparameters, rules: (to: string, layer: number) => readonly TensorRule[]): TensorRule[] =>
  Array.from({ length: h.layers }, (_, layer) => rules(`blk.${layer}`, layer)).flat();

/** The order of rows in which each head's halves are put in turn: llama.cpp turns neighbours, transformers the halves of a head. */
function interleaved(heads: number, headSize: number): number[] {
  return Array.from({ length: heads * headSize }, (_, row) => {
    const place = row % headSize;
    return row - place + (place % 2) * (headSize / 2) + (place >> 1);
  });
}

/** Queries, keys and values of all heads one after the other, in place of a head's three together. */
function byKind(heads: number, headSize: number): number[] {
  return Array.from({ length: 3 * heads * headSize }, (_, row) => {
    const [kind, head, place] = [Math.floor(row / (heads * headSize)), Math.floor(row / headSize) % heads, row % headSize];
    return (3 * head + kind) * headSize + place;
  });
}

const mamba: Architecture = {
  config(h) {
    h.expect('ssm.dt_b_c_rms', false);
    return {
      ...{ architectures: ['MambaForCausalLM'], model_type: 'mamba', vocab_size: h.vocabularySize, hidden_size: h.size('embedding_length') },
      ...{ num_hidden_layers: h.layers, intermediate_size: h.size('ssm.inner_size'), state_size: h.size('ssm.state_size') },
      ...{ conv_kernel: h.size('ssm.conv_kernel'), time_step_rank: h.size('ssm.time_step_rank'), use_bias: false, use_conv_bias: true },
      ...{ layer_norm_epsilon: h.real('attention.layer_norm_rms_epsilon'), tie_word_embeddings: !h.has('output.weight') },
    };
  },
  tensors(h) {
    const [V, D, E, N] = [h.vocabularySize, h.size('embedding_length'), h.size('ssm.inner_size'), h.size('ssm.state_size')];
    const [K, R] = [h.size('ssm.conv_kernel'), h.size('ssm.time_step_rank')];
    return mambaTensors(h, { V, D, E, K, projected: 2 * E, channels: E }, (to, from) => [
      matrix(`${to}.ssm_x.weight`, `${from}.x_proj.weight`, [R + 2 * N, E]),
      matrix(`${to}.ssm_dt.weight`, `${from}.dt_proj.weight`, [E, R]),
      vector(`${to}.ssm_dt.bias`, `${from}.dt_proj.bias`, [E]),
      vector(`${to}.ssm_a`, `${from}.A_log`, [E, N], { negativeExponential: true }),
      vector(`${to}.ssm_d`, `${from}.D`, [E]),
    ]);
  },
};

/**
 * What Mamba and Mamba-2 have in common: all but the mixer's own parameters.
 * @param sizes.projected outputs of in_proj @param sizes.channels of the convolution
 * @param own of a layer's mixer, between the convolution and out_proj
 */
function mambaTensors(
  h: Hyperparameters,
  { V, D, E, K, projected, channels }: Readonly<Record<'V' | 'D' | 'E' | 'K' | 'projected' | 'channels', number>>,
  own: (to: string, from: string) => TensorRule[],
): TensorRule[] {
  return [
    matrix('token_embd.weight', 'backbone.embeddings.weight', [V, D]),
    matrix('output.weight', 'lm_head.weight', [V, D], { optional: true }),
    vector('output_norm.weight', 'backbone.norm_f.weight', [D]),
    ...eachLayer(h, (to, layer) => {
      const from = `backbone.layers.${layer}`;
      return [
        vector(`${to}.attn_norm.weight`, `${from}.norm.weight`, [D]),
        matrix(`${to}.ssm_in.weight`, `${from}.mixer.in_proj.weight`, [projected, D]),
        vector(`${to}.ssm_conv1d.weight`, `${from}.mixer.conv1d.weight`, [channels, K]),
        vector(`${to}.ssm_conv1d.bias`, `${from}.mixer.conv1d.bias`, [channels]),
        ...own(to, `${from}.mixer`),
        matrix(`${to}.ssm_out.weight`, `${from}.mixer.out_proj.weight`, [D, E]),
      ];
    }),
  ];
}

/** In the official package's words: it norms each group by itself, as llama.cpp does. */
const mamba2: Architecture = {
  config: (h) => ({
    ...{ d_model: h.size('embedding_length'), d_intermediate: 0, n_layer: h.layers, vocab_size: h.vocabularySize, pad_vocab_size_multiple: 1 },
    ssm_cfg: {
      ...{ layer: 'Mamba2', d_state: h.size('ssm.state_size'), d_conv: h.size('ssm.conv_kernel'), expand: h.size('ssm.inner_size') / h.size('embedding_length') },
      ...{ headdim: h.size('ssm.inner_size') / h.size('ssm.time_step_rank'), ngroups: h.size('ssm.group_count'), rmsnorm: true, norm_before_gate: false },
    },
    ...{ rms_norm: true, layer_norm_epsilon: h.real('attention.layer_norm_rms_epsilon'), tie_embeddings: !h.has('output.weight') },
  }),
  tensors(h) {
    const [V, D, E, N] = [h.vocabularySize, h.size('embedding_length'), h.size('ssm.inner_size'), h.size('ssm.state_size')];
    const [K, H, G] = [h.size('ssm.conv_kernel'), h.size('ssm.time_step_rank'), h.size('ssm.group_count')];
    const channels = E + 2 * G * N;
    return mambaTensors(h, { V, D, E, K, projected: E + channels + H, channels }, (to, from) => [
      vector(`${to}.ssm_dt.bias`, `${from}.dt_bias`, [H]),
      vector(`${to}.ssm_a`, `${from}.A_log`, [H, 1], { modelShape: [H], negativeExponential: true }),
      vector(`${to}.ssm_d`, `${from}.D`, [H, 1], { modelShape: [H] }),
      vector(`${to}.ssm_norm.weight`, `${from}.norm.weight`, [G, E / G], { modelShape: [E] }),
    ]);
  },
};

const headSizeOf = (h: Hyperparameters): number => h.size('attention.key_length', h.size('embedding_length') / h.size('attention.head_count'));

/** Rotary embedding of the first `size` channels of a head. */
function rotaryWords(h: Hyperparameters, headSize: number, size: number): Words {
  h.expect('rope.scaling.type', 'none', 'linear');
  if (h.has('rope_freqs.weight')) {
    throw new CheckpointError('scales the rotary frequencies one by one, as Llama 3.1 does; expected none: that is not read. Hint: take the original checkpoint', { file: h.file, key: 'rope_freqs.weight' });
  }
  const factor = h.real('rope.scaling.factor', h.real('rope.scale_linear', 1));
  const scaling = factor === 1 ? { rope_type: 'default' } : { rope_type: 'linear', factor };
  return { rope_parameters: { rope_theta: h.real('rope.freq_base', 10000), partial_rotary_factor: size / headSize, ...scaling } };
}

const llama: Architecture = {
  config(h) {
    h.expect('expert_count', 0);
    const [headSize, heads] = [headSizeOf(h), h.size('attention.head_count')];
    h.expect('attention.value_length', headSize);
    h.expect('rope.dimension_count', headSize);
    const biased = (name: string) => h.has(`blk.0.${name}.bias`);
    return {
      ...{ architectures: ['LlamaForCausalLM'], model_type: 'llama', vocab_size: h.vocabularySize, hidden_size: h.size('embedding_length') },
      ...{ num_hidden_layers: h.layers, num_attention_heads: heads, num_key_value_heads: h.size('attention.head_count_kv', heads), head_dim: headSize },
      ...{ intermediate_size: h.size('feed_forward_length'), hidden_act: 'silu', rms_norm_eps: h.real('attention.layer_norm_rms_epsilon') },
      ...{ attention_bias: biased('attn_q'), mlp_bias: biased('ffn_up'), max_position_embeddings: h.size('context_length') },
      ...{ tie_word_embeddings: !h.has('output.weight'), ...rotaryWords(h, headSize, headSize) },
    };
  },
  tensors(h) {
    const [V, D, F, P] = [h.vocabularySize, h.size('embedding_length'), h.size('feed_forward_length'), headSizeOf(h)];
    const heads = h.size('attention.head_count');
    const kvHeads = h.size('attention.head_count_kv', heads);
    const linear = (to: string, from: string, [outputs, inputs]: readonly [number, number], more: Partial<TensorRule> = {}): TensorRule[] => [
      matrix(`${to}.weight`, `${from}.weight`, [outputs, inputs], more),
      vector(`${to}.bias`, `${from}.bias`, [outputs], { ...more, optional: true }),
    ];
    return [
      matrix('token_embd.weight', 'model.embed_tokens.weight', [V, D]),
      matrix('output.weight', 'lm_head.weight', [V, D], { optional: true }),
      vector('output_norm.weight', 'model.norm.weight', [D]),
      ...eachLayer(h, (to, layer) => {
        const from = `model.layers.${layer}`;
        return [
          vector(`${to}.attn_norm.weight`, `${from}.input_layernorm.weight`, [D]),
          ...linear(`${to}.attn_q`, `${from}.self_attn.q_proj`, [heads * P, D], { rows: () => interleaved(heads, P) }),
          ...linear(`${to}.attn_k`, `${from}.self_attn.k_proj`, [kvHeads * P, D], { rows: () => interleaved(kvHeads, P) }),
          ...linear(`${to}.attn_v`, `${from}.self_attn.v_proj`, [kvHeads * P, D]),
          ...linear(`${to}.attn_output`, `${from}.self_attn.o_proj`, [D, heads * P]),
          vector(`${to}.ffn_norm.weight`, `${from}.post_attention_layernorm.weight`, [D]),
          ...linear(`${to}.ffn_gate`, `${from}.mlp.gate_proj`, [F, D]),
          ...linear(`${to}.ffn_up`, `${from}.mlp.up_proj`, [F, D]),
          ...linear(`${to}.ffn_down`, `${from}.mlp.down_proj`, [D, F]),
        ];
      }),
    ];
  },
};

const gptNeox: Architecture = {
  config(h) {
    const headSize = headSizeOf(h);
    return {
      ...{ architectures: ['GPTNeoXForCausalLM'], model_type: 'gpt_neox', vocab_size: h.vocabularySize, hidden_size: h.size('embedding_length') },
      ...{ num_hidden_layers: h.layers, num_attention_heads: h.size('attention.head_count'), intermediate_size: h.size('feed_forward_length') },
      ...{ hidden_act: 'gelu', layer_norm_eps: h.real('attention.layer_norm_epsilon'), attention_bias: true, tie_word_embeddings: false },
      ...{ use_parallel_residual: h.flag('use_parallel_residual', true), max_position_embeddings: h.size('context_length') },
      ...rotaryWords(h, headSize, h.size('rope.dimension_count', headSize)),
    };
  },
  tensors(h) {
    const [V, D, F, heads] = [h.vocabularySize, h.size('embedding_length'), h.size('feed_forward_length'), h.size('attention.head_count')];
    const headSize = headSizeOf(h);
    const rows = () => byKind(heads, headSize);
    const both = (to: string, from: string, shape: readonly number[], more: Partial<TensorRule> = {}): TensorRule[] => [
      (shape.length === 2 ? matrix : vector)(`${to}.weight`, `${from}.weight`, shape, more),
      vector(`${to}.bias`, `${from}.bias`, shape.slice(0, 1), more),
    ];
    return [
      matrix('token_embd.weight', 'gpt_neox.embed_in.weight', [V, D]),
      matrix('output.weight', 'embed_out.weight', [V, D], { otherwise: 'gpt_neox.embed_in.weight' }),
      ...both('output_norm', 'gpt_neox.final_layer_norm', [D]),
      ...eachLayer(h, (to, layer) => {
        const from = `gpt_neox.layers.${layer}`;
        return [
          ...both(`${to}.attn_norm`, `${from}.input_layernorm`, [D]),
          ...both(`${to}.attn_qkv`, `${from}.attention.query_key_value`, [3 * D, D], { rows }),
          ...both(`${to}.attn_output`, `${from}.attention.dense`, [D, D]),
          ...both(`${to}.ffn_norm`, `${from}.post_attention_layernorm`, [D]),
          ...both(`${to}.ffn_up`, `${from}.mlp.dense_h_to_4h`, [F, D]),
          ...both(`${to}.ffn_down`, `${from}.mlp.dense_4h_to_h`, [D, F]),
        ];
      }),
    ];
  },
};

/** By their names in GGUF. */
export const architectures: ReadonlyMap<string, Architecture> = new Map([
  ['mamba', mamba],
  ['mamba2', mamba2],
  ['llama', llama],
  ['gptneox', gptNeox],
]);
