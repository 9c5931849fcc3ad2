// The models of the rows as llama.cpp has them: sizes and tensors in its words.

/** @typedef {import('./gguf.mjs').Values} Values */
/** @typedef {import('./gguf.mjs').GgufTensor} GgufTensor */
/** @typedef {import('./gguf.mjs').GgufModel} GgufModel */

const contextLength = 2 ** 20;
const same = (/** @type {Values} */ values) => values;

/**
 * A list of tensors, and what adds one: to a matrix, or with a change of values, by `how`.
 * @returns {{tensors: GgufTensor[], add: (name: string, key: string, shape: number[], how?: {matrix?: boolean, change?: (values: Values) => Values}) => void}}
 */
function tensorList() {
  /** @type {GgufTensor[]} */
  const tensors = [];
  return { tensors, add: (name, key, shape, { matrix = false, change = same } = {}) => void tensors.push({ name, key, shape, matrix, change }) };
}

/**
 * Mamba: RMS norm, tied head, no biases of projections.
 * @param {import('elapid').MambaConfig} config
 * @returns {GgufModel}
 */
export function mambaGguf({ layers, vocabularySize, dModel, dInner, dState, dConv, dtRank, normEpsilon }) {
  const { tensors, add } = tensorList();
  add('token_embd.weight', 'backbone.embeddings.weight', [vocabularySize, dModel], { matrix: true });
  add('output_norm.weight', 'backbone.norm_f.weight', [dModel]);
  for (let layer = 0; layer < layers; layer++) {
    const [to, from] = [`blk.${layer}`, `backbone.layers.${layer}`];
    add(`${to}.attn_norm.weight`, `${from}.norm.weight`, [dModel]);
    add(`${to}.ssm_in.weight`, `${from}.mixer.in_proj.weight`, [2 * dInner, dModel], { matrix: true });
    add(`${to}.ssm_conv1d.weight`, `${from}.mixer.conv1d.weight`, [dInner, dConv]);
    add(`${to}.ssm_conv1d.bias`, `${from}.mixer.conv1d.bias`, [dInner]);
    add(`${to}.ssm_x.weight`, `${from}.mixer.x_proj.weight`, [dtRank + 2 * dState, dInner], { matrix: true });
    add(`${to}.ssm_dt.weight`, `${from}.mixer.dt_proj.weight`, [dInner, dtRank], { matrix: true });
    add(`${to}.ssm_dt.bias`, `${from}.mixer.dt_proj.bias`, [dInner]);
    add(`${to}.ssm_a`, `${from}.mixer.A_log`, [dInner, dState], { change: (values) => values.map((x) => -Math.exp(x)) });
    add(`${to}.ssm_d`, `${from}.mixer.D`, [dInner]);
    add(`${to}.ssm_out.weight`, `${from}.mixer.out_proj.weight`, [dModel, dInner], { matrix: true });
  }
  const sizes = {
    ...{ context_length: contextLength, embedding_length: dModel, feed_forward_length: 0, 'attention.head_count': 0, block_count: layers },
    ...{ 'ssm.conv_kernel': dConv, 'ssm.inner_size': dInner, 'ssm.state_size': dState, 'ssm.time_step_rank': dtRank },
  };
  return { architecture: 'mamba', vocabularySize, sizes, reals: { 'attention.layer_norm_rms_epsilon': normEpsilon }, tensors };
}

/**
 * Mamba-2: RMS norm, tied head, no biases of projections, a gated norm in as many groups as B and C have.
 * @param {import('elapid').Mamba2Config} config
 * @returns {GgufModel}
 */
export function mamba2Gguf({ layers, vocabularySize, dModel, dInner, dState, dConv, headSize, groups, normEpsilon }) {
  const { tensors, add } = tensorList();
  const heads = dInner / headSize;
  const channels = dInner + 2 * groups * dState;
  add('token_embd.weight', 'backbone.embeddings.weight', [vocabularySize, dModel], { matrix: true });
  add('output_norm.weight', 'backbone.norm_f.weight', [dModel]);
  for (let layer = 0; layer < layers; layer++) {
    const [to, from] = [`blk.${layer}`, `backbone.layers.${layer}`];
    add(`${to}.attn_norm.weight`, `${from}.norm.weight`, [dModel]);
    add(`${to}.ssm_in.weight`, `${from}.mixer.in_proj.weight`, [dInner + channels + heads, dModel], { matrix: true });
    add(`${to}.ssm_conv1d.weight`, `${from}.mixer.conv1d.weight`, [channels, dConv]);
    add(`${to}.ssm_conv1d.bias`, `${from}.mixer.conv1d.bias`, [channels]);
    add(`${to}.ssm_dt.bias`, `${from}.mixer.dt_bias`, [heads]);
    add(`${to}.ssm_a`, `${from}.mixer.A_log`, [heads, 1], { change: (values) => values.map((x) => -Math.exp(x)) });
    add(`${to}.ssm_d`, `${from}.mixer.D`, [heads, 1]);
    add(`${to}.ssm_norm.weight`, `${from}.mixer.norm.weight`, [groups, dInner / groups]);
    add(`${to}.ssm_out.weight`, `${from}.mixer.out_proj.weight`, [dModel, dInner], { matrix: true });
  }
  const sizes = {
    ...{ context_length: contextLength, embedding_length: dModel, feed_forward_length: 0, 'attention.head_count': 0, block_count: layers },
    ...{ 'ssm.conv_kernel': dConv, 'ssm.inner_size': dInner, 'ssm.state_size': dState, 'ssm.time_step_rank': heads, 'ssm.group_count': groups },
  };
  return { architecture: 'mamba2', vocabularySize, sizes, reals: { 'attention.layer_norm_rms_epsilon': normEpsilon }, tensors };
}

/**
 * The Transformer: RMS norm, SwiGLU, the whole of a head turned by its position, tied head, no biases.
 * @param {import('elapid').TransformerConfig} config
 * @returns {GgufModel}
 */
export function llamaGguf({ layers, vocabularySize, dModel, heads, kvHeads, headSize, inner, normEpsilon, rotary }) {
  const { tensors, add } = tensorList();
  // llama.cpp turns neighbours, transformers the halves of a head: rows of a head are put in turn.
  const interleaved = (/** @type {Values} */ values) => {
    const row = dModel;
    const half = headSize / 2;
    const result = new Float32Array(values.length);
    for (let to = 0; to < values.length / row; to++) {
      const [head, place] = [Math.floor(to / headSize), to % headSize];
      const from = head * headSize + (place % 2) * half + Math.floor(place / 2);
      result.set(values.subarray(from * row, (from + 1) * row), to * row);
    }
    return result;
  };
  add('token_embd.weight', 'model.embed_tokens.weight', [vocabularySize, dModel], { matrix: true });
  add('output_norm.weight', 'model.norm.weight', [dModel]);
  for (let layer = 0; layer < layers; layer++) {
    const [to, from] = [`blk.${layer}`, `model.layers.${layer}`];
    add(`${to}.attn_norm.weight`, `${from}.input_layernorm.weight`, [dModel]);
    add(`${to}.attn_q.weight`, `${from}.self_attn.q_proj.weight`, [heads * headSize, dModel], { matrix: true, change: interleaved });
    add(`${to}.attn_k.weight`, `${from}.self_attn.k_proj.weight`, [kvHeads * headSize, dModel], { matrix: true, change: interleaved });
    add(`${to}.attn_v.weight`, `${from}.self_attn.v_proj.weight`, [kvHeads * headSize, dModel], { matrix: true });
    add(`${to}.attn_output.weight`, `${from}.self_attn.o_proj.weight`, [dModel, heads * headSize], { matrix: true });
    add(`${to}.ffn_norm.weight`, `${from}.post_attention_layernorm.weight`, [dModel]);
    add(`${to}.ffn_gate.weight`, `${from}.mlp.gate_proj.weight`, [inner, dModel], { matrix: true });
    add(`${to}.ffn_up.weight`, `${from}.mlp.up_proj.weight`, [inner, dModel], { matrix: true });
    add(`${to}.ffn_down.weight`, `${from}.mlp.down_proj.weight`, [dModel, inner], { matrix: true });
  }
  const sizes = {
    ...{ context_length: contextLength, embedding_length: dModel, feed_forward_length: inner, block_count: layers, vocab_size: vocabularySize },
    ...{ 'attention.head_count': heads, 'attention.head_count_kv': kvHeads, 'rope.dimension_count': headSize },
  };
  const reals = { 'attention.layer_norm_rms_epsilon': normEpsilon, 'rope.freq_base': rotary?.base ?? 10000 };
  return { architecture: 'llama', vocabularySize, sizes, reals, tensors };
}
