import { mkdirSync, writeFileSync } from 'node:fs';
import { describe, expect, test, vi } from 'vitest';
import { PlanBackend } from '../../src/backend/plan/plan-backend.js';
import { familyNamed, familyNames, LanguageModel, mambaConfig, mambaFamily, readConfigFile, type MambaConfig } from '../../src/models/index.js';
import { warnOnConsole } from '../../src/models/config-keys.js';
import { describedBy } from '../../src/models/registry.js';
import { ArgumentError, type CheckpointError } from '../../src/util/errors.js';
import { checkpointErrorOf } from '../support/checkpoints.js';
import { useFolder } from '../support/folders.js';

const transformers = { model_type: 'mamba', vocab_size: 50277, hidden_size: 768, num_hidden_layers: 24 };
const official = { d_model: 768, n_layer: 24, vocab_size: 50277 };

/** What a config becomes, and the keys that were warned of. */
function parsed(json: object): { config: MambaConfig; warnings: string[] } {
  const warnings: string[] = [];
  const config = describedBy(json, 'config.json', (message) => warnings.push(message)).config as MambaConfig;
  return { config, warnings };
}

const refusal = (json: object): Promise<CheckpointError> => checkpointErrorOf(() => Promise.resolve().then(() => parsed(json)));

/** The `model_type`s that are known, as messages list them. */
const known = familyNames().flatMap((name) => familyNamed(name).modelTypes.map((type) => `"${type}"`));
const types = `${known.slice(0, -1).join(', ')} or ${known.at(-1) ?? ''}`;

describe('keys of a config.json', () => {
  test('a converted checkpoint has both dialects, as state-spaces/mamba-130m-hf', () => {
    const { config, warnings } = parsed({
      _name_or_path: '/tmp/x',
      architectures: ['MambaForCausalLM'],
      ...{ bos_token_id: 0, eos_token_id: 0, pad_token_id: 0, conv_kernel: 4, d_inner: 1536, d_model: 768, expand: 2, fused_add_norm: true },
      ...{ hidden_act: 'silu', hidden_size: 768, initializer_range: 0.1, intermediate_size: 1536, layer_norm_epsilon: 1e-5 },
      ...{ model_type: 'mamba', n_layer: 24, num_hidden_layers: 24, pad_vocab_size_multiple: 8, rescale_prenorm_residual: false },
      ...{ residual_in_fp32: true, rms_norm: true, ssm_cfg: {}, state_size: 16, time_step_floor: 1e-4, time_step_init_scheme: 'random' },
      ...{ time_step_max: 0.1, time_step_min: 0.001, time_step_rank: 48, time_step_scale: 1, torch_dtype: 'float32' },
      ...{ transformers_version: '4.39.0.dev0', use_bias: false, use_cache: true, use_conv_bias: true, vocab_size: 50280 },
    });
    expect(warnings).toEqual([]);
    expect(config).toMatchObject({ vocabularySize: 50280, dModel: 768, layers: 24, dInner: 1536, dtRank: 48, norm: 'rms', tiedHead: true, endOfText: [0] });
  });

  test.each<[string, object, Partial<MambaConfig>]>([
    ['transformers: the vocabulary as it is', transformers, { vocabularySize: 50277, dInner: 1536, dtRank: 48 }],
    ['official: the vocabulary padded', official, { vocabularySize: 50280, dInner: 1536, dtRank: 48 }],
    ['official: padded to another multiple', { ...official, pad_vocab_size_multiple: 16 }, { vocabularySize: 50288 }],
    ['official: null for nothing', { ...official, ssm_cfg: null, attn_cfg: null, attn_layer_idx: null, d_intermediate: 0 }, { dState: 16, dInner: 1536 }],
    ['official: sizes of the layer', { ...official, ssm_cfg: { d_state: 8, d_conv: 3, expand: 1, dt_rank: 'auto', bias: true, layer: 'Mamba1' } }, { dState: 8, dConv: 3, dInner: 768, dtRank: 48, projectionBias: true }],
    ['official: layer norm, untied', { ...official, rms_norm: false, tie_embeddings: false }, { norm: 'layer', tiedHead: false }],
    ['official: transformers’ word for tying', { ...official, tie_word_embeddings: false }, { tiedHead: false }],
    ['no model_type, but an architecture', { ...transformers, model_type: undefined, architectures: ['MambaForCausalLM'] }, { vocabularySize: 50277 }],
    ['swish is SiLU', { ...transformers, hidden_act: 'swish' }, { dModel: 768 }],
    ['channels that are no multiple', { ...transformers, intermediate_size: 100 }, { dInner: 100 }],
    ['a multiple rounded down', { ...transformers, hidden_size: 30, expand: 1.05 }, { dInner: 31 }],
    ['a multiple that was worked out', { ...transformers, hidden_size: 49, intermediate_size: 57, expand: 57 / 49 }, { dInner: 57 }],
    ['one id that ends a text', { ...transformers, eos_token_id: 3 }, { endOfText: [3] }],
    ['several, one of them twice', { ...official, eos_token_id: [3, 0, 3] }, { endOfText: [3, 0] }],
    ['none', { ...transformers, eos_token_id: null }, { endOfText: [] }],
    ['in half precision only', { ...transformers, residual_in_fp32: false, use_mambapy: true }, { dModel: 768 }],
  ])('%s', (_, json, expected) => {
    // As a file has it: without undefined.
    const { config, warnings } = parsed(JSON.parse(JSON.stringify(json)) as object);
    expect(config).toMatchObject(expected);
    expect(warnings).toEqual([]);
  });

  test.each<[object, string]>([
    [{ ...transformers, hidden_act: 'gelu' }, `key 'hidden_act': is "gelu"; expected "silu" or "swish"`],
    [{ ...transformers, num_hidden_layers: '24' }, `key 'num_hidden_layers': is "24"; expected an integer from 1 to 4096`],
    [{ ...transformers, state_size: 2.5 }, `key 'state_size': is 2.5; expected an integer from 1 to 2048`],
    [{ ...transformers, time_step_rank: 'full' }, `key 'time_step_rank': is "full"; expected "auto" or an integer from 1 to 16777216`],
    [{ ...transformers, use_bias: 'no' }, `key 'use_bias': is "no"; expected true or false`],
    [{ ...transformers, layer_norm_epsilon: -1 }, `key 'layer_norm_epsilon': is -1; expected a number of at least 0`],
    [{ ...transformers, rms_norm: false }, `key 'rms_norm': is false; expected true`],
    [{ ...transformers, quantization_config: { quant_method: 'bitsandbytes' } }, `key 'quantization_config': the weights are quantized by bitsandbytes; expected plain ones`],
    [{ ...transformers, model_type: 'falcon-mamba' }, `key 'model_type': is "falcon-mamba"; expected ${types}. Hint: did you mean 'falcon_mamba'?`],
    [{ vocab_size: 1, hidden_size: 8, num_hidden_layers: 1 }, `key 'model_type': is missing; expected ${types} (the config.json of transformers), or d_model`],
    [{ model_type: 'mamba', vocab_size: 8, num_hidden_layers: 1 }, `key 'hidden_size': is missing; expected the width of the residual stream`],
    [{ d_model: 8, vocab_size: 8 }, `key 'n_layer': is missing; expected the number of layers`],
    [{ ...official, ssm_cfg: { d_stat: 4 } }, `key 'ssm_cfg.d_stat': is not a key that is known here. Hint: did you mean 'd_state'?`],
    [{ ...official, ssm_cfg: { device: null } }, `key 'ssm_cfg.device': is not a key that is known here`],
    [{ ...official, ssm_cfg: { layer: 'Mamba3' } }, `key 'ssm_cfg.layer': is "Mamba3"; expected "Mamba1"`],
    [{ ...official, ssm_cfg: 5 }, `key 'ssm_cfg': is 5; expected an object`],
    [{ ...official, attn_cfg: { heads: 4 } }, `key 'attn_cfg.heads': is not a key that is known here`],
    [{ ...official, attn_layer_idx: [5, 11] }, `key 'attn_layer_idx': is [5,11]; expected an empty list: attention layers are not supported`],
    [{ ...official, d_intermediate: 2048 }, `key 'd_intermediate': is 2048; expected 0: blocks with an MLP are not supported`],
    [{ ...transformers, d_model: 1024 }, `key 'hidden_size': is 768, but 'd_model' is 1024; expected the same`],
    [{ ...transformers, n_layer: 48 }, `key 'num_hidden_layers': is 24, but 'n_layer' is 48; expected the same`],
    [{ ...transformers, state_size: 16, ssm_cfg: { d_state: 8 } }, `key 'state_size': is 16, but 'ssm_cfg.d_state' is 8; expected the same`],
    [{ ...official, tie_embeddings: true, tie_word_embeddings: false }, `key 'tie_word_embeddings': is false, but 'tie_embeddings' is true; expected the same`],
    [{ ...transformers, intermediate_size: 1500, expand: 2 }, `key 'intermediate_size': is 1500, but expand · width is 2·768 = 1536; expected the same`],
    [{ ...transformers, expand: -2 }, `key 'expand': is -2; expected a number above 0`],
    [{ ...transformers, expand: 0.001 }, `key 'expand': makes 0 channels of a width of 768; expected 1 to 16777216`],
    [{ ...transformers, eos_token_id: 50277 }, `key 'eos_token_id': is 50277; expected an id below 50277, the size of the vocabulary, or a list of such`],
    [{ ...official, eos_token_id: [0, -1] }, `key 'eos_token_id': is [0,-1]; expected an id below 50280`],
    [{ ...official, eos_token_id: '0' }, `key 'eos_token_id': is "0"; expected an id`],
    [{ ...official, eos_token_id: 1.5 }, `key 'eos_token_id': is 1.5; expected an id`],
  ])('%j is refused', async (json, message) => {
    expect((await refusal(json)).message).toContain(message);
  });

  test.each<[object, string[]]>([
    [{ hidden_sise: 768 }, [`config.json, key 'hidden_sise': is not a key that is known here, and has no effect. Hint: did you mean 'hidden_size'?`]],
    [{ time_step_limit: [0, 1], mixer_rms_eps: 1e-6 }, ['time_step_limit', 'mixer_rms_eps'].map((key) => `config.json, key '${key}': is not a key that is known here, and has no effect`)],
    [{ temperature: 0.7, top_p: 1, min_length: 5, stop_strings: null }, [['temperature', '0.7'], ['min_length', '5']].map(([key, value]) => `config.json, key '${String(key)}': is ${String(value)}, and has no effect: generation is set by its options alone`)],
    [{ suppress_tokens: [1, 2], _commit_hash: 'x', id2label: {}, use_cache: false }, [`config.json, key 'suppress_tokens': is [1,2], and has no effect: generation is set by its options alone`]],
  ])('%j: a warning for each key that is not read', (more, expected) => {
    expect(parsed({ ...transformers, ...more }).warnings).toEqual(expected);
    expect(parsed({ ...official, ...more }).warnings).toEqual(expected);
  });

  test('warnings go to the console where nobody listens', () => {
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined);
    describedBy({ ...official, colour: 'red' }, 'config.json', warnOnConsole);
    expect(warn.mock.calls).toEqual([[expect.stringContaining("key 'colour'")]]);
    warn.mockRestore();
  });

  test('what is written is read, with nothing to warn of', () => {
    for (const endOfText of [[], [4], [4, 0]]) {
      const config = mambaConfig({ vocabularySize: 23, dModel: 49, layers: 2, dInner: 57, endOfText, tiedHead: false });
      expect(parsed(JSON.parse(JSON.stringify(mambaFamily.write(config))) as object)).toEqual({ config, warnings: [] });
    }
  });
});

describe('generation_config.json', () => {
  const path = useFolder();
  const write = (name: string, generation: unknown, config: object = { ...transformers, eos_token_id: 7 }) => {
    mkdirSync(path(name), { recursive: true });
    writeFileSync(path(name, 'config.json'), JSON.stringify(config));
    writeFileSync(path(name, 'generation_config.json'), typeof generation === 'string' ? generation : JSON.stringify(generation));
    return path(name, 'config.json');
  };

  test.each<[string, object, readonly number[], string[]]>([
    ['several ids', { _from_model_config: true, bos_token_id: 1, eos_token_id: [0, 2], transformers_version: '4.39' }, [0, 2], []],
    ['one', { eos_token_id: 2, temperature: 1, do_sample: true }, [2], []],
    ['an empty list', { eos_token_id: [] }, [], []],
    ['nothing: what config.json says', { eos_token_id: null, pad_token_id: 0 }, [7], []],
    ['other settings', { top_k: 5, colour: 'red' }, [7], ['top_k', 'colour']],
  ])('%s', async (name, generation, endOfText, keys) => {
    const warnings: string[] = [];
    const { config } = await readConfigFile(write(name, generation), (message) => warnings.push(message));
    expect(config.endOfText).toEqual(endOfText);
    expect(warnings.map((message) => /generation_config\.json, key '(\w+)'/.exec(message)?.[1])).toEqual(keys);
  });

  test.each<[unknown, string]>([
    [{ eos_token_id: [0, 99999] }, `key 'eos_token_id': is [0,99999]; expected an id below 50277`],
    [{ eos_token_id: '</s>' }, `key 'eos_token_id': is "</s>"; expected an id`],
    [{ eos_token_id: [true] }, `key 'eos_token_id': is [true]; expected an id`],
    ['{"eos_token_id": ', 'the text is not valid JSON'],
    ['[2]', 'expected an object'],
  ])('%j is refused', async (generation, message) => {
    const error = await checkpointErrorOf(() => readConfigFile(write('refused', generation)));
    expect(error.file).toMatch(/generation_config\.json$/);
    expect(error.message).toContain(message);
  });
});

describe('sizes beyond all models are refused before anything of their size is made', () => {
  const billion = 1e9;

  test.each(['vocab_size', 'hidden_size', 'num_hidden_layers', 'state_size', 'conv_kernel', 'intermediate_size', 'time_step_rank', 'expand'])('%s', async (key) => {
    for (const value of [billion, 2 ** 40, Infinity]) {
      const error = await refusal({ ...transformers, [key]: value });
      expect(error).toMatchObject({ key });
      expect(error.message).toMatch(/expected .*\d/);
    }
  });

  test.each(['d_state', 'd_conv', 'dt_rank', 'expand'])('ssm_cfg.%s', async (key) => {
    expect(await refusal({ ...official, ssm_cfg: { [key]: billion } })).toMatchObject({ key: `ssm_cfg.${key}` });
  });

  test('sizes that are each possible, but not together', async () => {
    expect((await refusal({ ...transformers, hidden_size: 2 ** 20 })).message).toMatch(/the number of parameters is .*e\+\d+; expected at most 1\.10e\+12/);
  });

  test.each(['vocabularySize', 'dModel', 'layers', 'dState', 'dConv', 'dInner', 'dtRank'] as const)('mambaConfig and LanguageModel: %s', (key) => {
    const sizes = { vocabularySize: 16, dModel: 8, layers: 1 };
    for (const value of [billion, 0, -1, 1.5, NaN]) {
      const message = new RegExp(`${key} is ${value}; expected an integer from 1 to \\d+`);
      expect(() => mambaConfig({ ...sizes, [key]: value })).toThrow(message);
      expect(() => LanguageModel.initial(mambaFamily, { ...mambaConfig(sizes), [key]: value }, new PlanBackend(), 1)).toThrow(message);
      expect(() => new LanguageModel(mambaFamily, { ...mambaConfig(sizes), [key]: value }, new PlanBackend(), () => expect.fail('asked for a parameter'))).toThrow(ArgumentError);
    }
  });

  test('ids that end a text are in the vocabulary', () => {
    for (const id of [16, -1, 0.5, NaN]) {
      expect(() => mambaConfig({ vocabularySize: 16, dModel: 8, layers: 1, endOfText: [0, id] })).toThrow(
        `mambaConfig: endOfText[1] is ${id}; expected an id in [0, V) = [0, 16)`,
      );
    }
  });
});
