/**
 * Keys of a config.json or generation_config.json that a Mamba model does not read. Those that change nothing here are left out
 * without a word; those that change what other programs do with the model, and keys that nobody knows, are worth a warning.
 */

/** Called with a sentence about something in a file that has no effect here, or another than its writer may expect. */
export type OnWarning = (message: string) => void;

/**
 * How a library tells of what is odd when nobody listens: on the console, which every program has and which disturbs nothing
 * that goes to standard output. A model that computes something else than its writer expects must not do so in silence.
 */
export const warnOnConsole: OnWarning = (message) => {
  console.warn(message);
};

/**
 * Without effect: how the file came to be, how other programs compute the same (in float32 the residual stream is float32
 * whatever `residual_in_fp32` says), what they return or label, and ids that only pad or begin a text.
 */
const withoutEffect: ReadonlySet<string> = new Set([
  ...['architectures', 'auto_map', 'name_or_path', 'transformers_version', 'transformers_weights', 'torch_dtype', 'dtype', 'use_bfloat16'],
  ...['use_cache', 'use_mambapy', 'use_associative_scan', 'fused_add_norm', 'residual_in_fp32', 'attn_implementation'],
  ...['torchscript', 'return_dict', 'return_dict_in_generate', 'output_hidden_states', 'output_attentions', 'output_scores', 'output_logits'],
  ...['pad_vocab_size_multiple', 'pad_token_id', 'bos_token_id', 'sep_token_id', 'decoder_start_token_id', 'tokenizer_class', 'model_max_length'],
  ...['is_decoder', 'is_encoder_decoder', 'cross_attention_hidden_size', 'add_cross_attention', 'tie_encoder_decoder', 'pruned_heads'],
  ...['id2label', 'label2id', 'num_labels', 'problem_type', 'finetuning_task', 'task_specific_params', 'chunk_size_feed_forward'],
  ...['max_position_embeddings', 'gradient_checkpointing', 'cache_implementation'],
  // Whether to sample at all, and how many texts: what a program asks for each time.
  ...['do_sample', 'num_return_sequences'],
]);

/** What transformers' `generate` would do, by key, with the values that change nothing there; null never does. */
const generationDefaults: Readonly<Record<string, readonly unknown[]>> = {
  ...{ temperature: [1], top_k: [50], top_p: [1], min_p: [0], typical_p: [1], epsilon_cutoff: [0], eta_cutoff: [0] },
  ...{ repetition_penalty: [1], encoder_repetition_penalty: [1], length_penalty: [1], diversity_penalty: [0], penalty_alpha: [0] },
  ...{ no_repeat_ngram_size: [0], encoder_no_repeat_ngram_size: [0], bad_words_ids: [], force_words_ids: [], constraints: [] },
  ...{ max_length: [20], max_new_tokens: [], min_length: [0], min_new_tokens: [], max_time: [], stop_strings: [], prefix: [] },
  ...{ num_beams: [1], num_beam_groups: [1], early_stopping: [false], guidance_scale: [1], exponential_decay_length_penalty: [] },
  ...{ suppress_tokens: [], begin_suppress_tokens: [], forced_bos_token_id: [], forced_eos_token_id: [], sequence_bias: [] },
  ...{ renormalize_logits: [false], remove_invalid_values: [false], watermarking_config: [], low_memory: [], use_model_defaults: [] },
};

/** What a key that is not read is worth telling. */
export function unreadKey(key: string, value: unknown): 'nothing' | 'not applied' | 'unknown' {
  if (key.startsWith('_') || withoutEffect.has(key)) return 'nothing';
  if (!Object.hasOwn(generationDefaults, key)) return 'unknown';
  return value === null || generationDefaults[key]?.includes(value) === true ? 'nothing' : 'not applied';
}
