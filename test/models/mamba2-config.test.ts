/** config.json of Mamba-2 and Bamba: what becomes of it, what is refused, and in which dialect a model is saved. */
import { describe, expect, test } from 'vitest';
import { PlanBackend } from '../../src/backend/plan/plan-backend.js';
import { bambaFamily, LanguageModel, mamba2Family } from '../../src/models/index.js';
import { describedBy } from '../../src/models/registry.js';
import { checkpointErrorOf } from '../support/checkpoints.js';

const transformers = { model_type: 'mamba2', vocab_size: 50288, hidden_size: 768, num_hidden_layers: 24, num_heads: 24, n_groups: 1 };
const official = { d_model: 768, n_layer: 24, vocab_size: 50277, pad_vocab_size_multiple: 16, ssm_cfg: { layer: 'Mamba2' } };
const attention = { causal: true, d_conv: 4, head_dim: 128, num_heads: 30, out_proj_bias: false, qkv_proj_bias: false, rotary_emb_dim: 64 };
const hybrid = { ...official, d_model: 2560, n_layer: 64, attn_layer_idx: [9, 18, 27, 36, 45, 56], attn_cfg: attention };
const bamba = {
  ...{ model_type: 'bamba', vocab_size: 128256, hidden_size: 4096, num_hidden_layers: 32, num_attention_heads: 32, num_key_value_heads: 8 },
  ...{ attn_layer_indices: [9, 18, 27], attn_rotary_emb: 64, intermediate_size: 14336, mamba_d_state: 128, mamba_n_heads: 128, mamba_d_head: 'auto' },
};

function parsed(json: object) {
  const warnings: string[] = [];
  const { family, config } = describedBy(json, 'config.json', (message) => warnings.push(message));
  return { family: family.name, config, warnings };
}

describe('a config.json', () => {
  test.each<[string, object, string, object]>([
    ['transformers', transformers, 'mamba2', { vocabularySize: 50288, dInner: 1536, headSize: 64, dState: 128, gatedNorm: { groups: 1 }, dtLimit: [0, Infinity], tiedHead: false }],
    ['several groups, in transformers: normed as one', { ...transformers, n_groups: 8 }, 'mamba2', { groups: 8, gatedNorm: { groups: 1, normBeforeGate: false } }],
    ['what published files have and transformers reads nowhere', { ...transformers, rms_norm: true, norm_before_gate: true, time_step_rank: 48, chunk_size: 256 }, 'mamba2', { gatedNorm: { normBeforeGate: false } }],
    ['no model_type, but an architecture', { ...transformers, model_type: undefined, architectures: ['Mamba2ForCausalLM'] }, 'mamba2', { dModel: 768 }],
    ['a multiple that was worked out', { ...transformers, hidden_size: 41, expand: 57 / 41, head_dim: 19, num_heads: 3 }, 'mamba2', { dInner: 57 }],
    ['a multiple rounded down', { ...official, d_model: 30, ssm_cfg: { layer: 'Mamba2', expand: 1.05, headdim: 31 } }, 'mamba2', { dInner: 31 }],
    ['the official package: the vocabulary padded', official, 'mamba2', { vocabularySize: 50288, dInner: 1536, dSsm: 1536, headSize: 64, attention: null, inner: 0, tiedHead: true }],
    ['several groups, in the official package: each normed', { ...official, ssm_cfg: { layer: 'Mamba2', ngroups: 8 } }, 'mamba2', { groups: 8, gatedNorm: { groups: 8 } }],
    [
      'the official block’s options',
      { ...official, ssm_cfg: { layer: 'Mamba2', d_ssm: 512, headdim: 32, D_has_hdim: true, rmsnorm: false, dt_limit: [0.01, 0.2], conv_init: 0.5, A_init_range: [1, 2], bias: true } },
      'mamba2',
      { dSsm: 512, headSize: 32, skipPerChannel: true, gatedNorm: null, dtLimit: [0.01, 0.2], projectionBias: true, initialisation: { convBound: 0.5, aMin: 1, aMax: 2 } },
    ],
    [
      'the published hybrid',
      hybrid,
      'mamba2',
      { attentionLayers: [9, 18, 27, 36, 45, 56], attention: { heads: 30, kvHeads: 30, headSize: 128, convWidth: 4, rotary: { size: 64, base: 10000 }, inputBias: false } },
    ],
    ['feed-forward layers and units, rounded up', { ...hybrid, d_intermediate: 4000, attn_cfg: { ...attention, mlp_dim: 300, num_heads_kv: 5 } }, 'mamba2', { inner: 4096, attention: { unit: 256, kvHeads: 5 } }],
    ['no attention layer: arguments that say nothing', { ...official, attn_layer_idx: [], attn_cfg: { num_heads: 3 } }, 'mamba2', { attention: null, attentionLayers: [] }],
    ['Mamba-1 without a layer', { ...official, ssm_cfg: {} }, 'mamba', { dModel: 768 }],
    ['Mamba-1 by name', { ...official, ssm_cfg: { layer: 'Mamba1' } }, 'mamba', { dModel: 768 }],
    ['Bamba', bamba, 'bamba', { attentionLayers: [9, 18, 27], rotary: { size: 64 }, headSize: 128, kvHeads: 8, mamba: { headSize: 64, groups: 1, dInner: 8192 } }],
    ['Bamba without attention', { ...bamba, attn_layer_indices: null }, 'bamba', { attentionLayers: [] }],
  ])('%s', (_, json, family, expected) => {
    const result = parsed(JSON.parse(JSON.stringify(json)) as object);
    expect(result).toMatchObject({ family, warnings: [] });
    expect(result.config).toMatchObject(expected);
  });

  test.each<[object, string]>([
    [{ ...transformers, num_heads: 25 }, `key 'num_heads': is 25, and head_dim is 64; expected a product of expand · hidden_size = 1536`],
    [{ ...transformers, n_groups: 5 }, `groups is 5; expected a divisor of the number of heads, 24`],
    [{ ...transformers, state_size: 1000 }, `key 'state_size': is 1000; expected an integer from 1 to 512`],
    [{ ...transformers, rms_norm: false }, `key 'rms_norm': is false; expected true`],
    [{ ...transformers, hidden_act: 'gelu' }, `key 'hidden_act': is "gelu"; expected "silu" or "swish"`],
    [{ ...transformers, time_step_limit: [0.2, 0.1] }, `dtLimit is [0.2, 0.1]; expected two numbers, 0 ≤ least < most`],
    [{ ...transformers, time_step_limit: [0] }, `key 'time_step_limit.1': is undefined; expected a number above 0`],
    [{ ...transformers, quantization_config: {} }, `key 'quantization_config'`],
    [{ ...official, ssm_cfg: { layer: 'Mamba2', d_stat: 4 } }, `key 'ssm_cfg.d_stat': is not a key that is known here. Hint: did you mean 'd_state'?`],
    [{ ...official, ssm_cfg: { layer: 'Mamba2', d_ssm: 2048 } }, `dSsm is 2048; expected at most dInner = 1536`],
    [{ ...official, ssm_cfg: { layer: 'Mamba2', headdim: 100 } }, `headSize is 100; expected a divisor of dSsm = 1536`],
    [{ ...hybrid, attn_layer_idx: [64] }, `attentionLayers[0] is 64; expected layers from 0 to 63 in ascending order`],
    [{ ...hybrid, attn_cfg: {} }, `key 'attn_cfg.causal': is missing; expected true`],
    [{ ...hybrid, attn_cfg: { ...attention, causal: false } }, `key 'attn_cfg.causal': is false; expected true`],
    [{ ...hybrid, attn_cfg: { ...attention, rotary_emb_interleaved: true } }, `key 'attn_cfg.rotary_emb_interleaved': is true; expected false`],
    [{ ...hybrid, attn_cfg: { ...attention, softmax_scale: 0.1 } }, `key 'attn_cfg.softmax_scale': is 0.1`],
    [{ ...hybrid, attn_cfg: { ...attention, heads: 3 } }, `key 'attn_cfg.heads': is not a key that is known here`],
    [{ ...hybrid, attn_cfg: { causal: true, num_heads: 7 } }, `key 'attn_cfg.num_heads': is 7; expected a divisor of d_model, 2560, where there is no head_dim`],
    [{ ...hybrid, attn_cfg: { ...attention, rotary_emb_dim: 130 } }, `rotary.size is 130; expected an even number from 2 to headSize = 128`],
    [{ ...bamba, attn_layer_indices: [32] }, `attentionLayers[0] is 32; expected layers from 0 to 31 in ascending order`],
    [{ ...bamba, attn_rotary_emb: 32 }, `key 'attn_rotary_emb': is 32, but 'partial_rotary_factor' is 64; expected the same`],
    [{ ...bamba, mamba_d_head: 63 }, `key 'mamba_n_heads': is 128, and mamba_d_head is 63; expected a product of mamba_expand · hidden_size = 8192`],
  ])('%j is refused', async (json, message) => {
    expect((await checkpointErrorOf(() => Promise.resolve().then(() => parsed(json)))).message).toContain(message);
  });

  test.each([
    [{ ...transformers, colour: 'red' }, 'colour'],
    [{ ...official, dt_limit: [0, 1] }, 'dt_limit'],
    [{ ...bamba, mamba_n_head: 3 }, 'mamba_n_head'],
  ])('%j: a warning for the key that is not read', (json, key) => {
    expect(parsed(json).warnings).toEqual([expect.stringContaining(`config.json, key '${key}': is not a key that is known here, and has no effect`)]);
  });
});

describe('saving', () => {
  const write = (json: object) => mamba2Family.write(mamba2Family.read(json as never, 'config.json', () => undefined));

  test.each<[string, object, object]>([
    ['transformers’ model, in its dialect', { ...transformers, n_groups: 8 }, { model_type: 'mamba2', n_groups: 8 }],
    ['the official package’s of one group, in transformers’ dialect', official, { model_type: 'mamba2', vocab_size: 50288, rescale_prenorm_residual: true }],
    ['of several groups, in the official one', { ...official, ssm_cfg: { layer: 'Mamba2', ngroups: 8 } }, { pad_vocab_size_multiple: 1, ssm_cfg: { layer: 'Mamba2', ngroups: 8 } }],
    ['a hybrid', hybrid, { d_model: 2560, attn_layer_idx: [9, 18, 27, 36, 45, 56], attn_cfg: { num_heads: 30, d_conv: 4 } }],
    ['a lower limit alone', { ...transformers, time_step_limit: [0.01, Infinity] }, { time_step_limit: [0.01, { __float__: 'Infinity' }] }],
  ])('%s', (_, json, expected) => {
    expect(write(json)).toMatchObject(expected);
  });

  test('no dialect has a norm over all groups beside attention', () => {
    const config = { ...mamba2Family.read(hybrid, 'config.json', () => undefined), groups: 4, gatedNorm: { epsilon: 1e-5, groups: 1, normBeforeGate: false } };
    expect(() => mamba2Family.write(config)).toThrow("saveModel: gatedNorm.groups is 1; expected groups = 4, as the official package has them");
  });
});

describe('a config that cannot be', () => {
  const published = mamba2Family.read(hybrid, 'config.json', () => undefined);
  const ofBamba = bambaFamily.read(bamba, 'config.json', () => undefined);

  test.each<[string, () => unknown, RegExp]>([
    ['attention of another width', () => mamba2Family.problemOf({ ...published, attention: { ...published.attention, dModel: 8 } as never }), /^attention\.dModel the model's, 2560 8$/],
    ['another epsilon in the gated norm', () => mamba2Family.problemOf({ ...published, normEpsilon: 1e-6 }), /^gatedNorm\.epsilon the model's, 0\.000001 0\.00001$/],
    ['attention without a layer', () => mamba2Family.problemOf({ ...published, attentionLayers: [] }), /^attention null, where no layer holds it sizes$/],
    ['layers without attention', () => mamba2Family.problemOf({ ...published, attention: null }), /^attention the sizes of the layers that hold it null$/],
    ['a unit of no multiple', () => mamba2Family.problemOf({ ...published, attention: { ...published.attention, unit: 5 } as never }), /^attention\.unit a multiple of 128, or 0 5$/],
    ['Bamba’s mixers of another width', () => bambaFamily.problemOf({ ...ofBamba, mamba: { ...ofBamba.mamba, dModel: 8 } }), /^mamba\.dModel the model's, 4096 8$/],
    ['Bamba’s mixers of another epsilon', () => bambaFamily.problemOf({ ...ofBamba, normEpsilon: 1e-3 }), /^mamba\.gatedNorm\.epsilon the model's, 0\.001 0\.00001$/],
  ])('%s', (_, problem, expected) => {
    const { argument, expected: wanted, got } = problem() as { argument: string; expected: string; got: string };
    expect(`${argument} ${wanted} ${got}`).toMatch(expected);
  });

  test.each<[string, object, RegExp]>([
    ['a window', { window: 3 }, /saveModel: window is one; expected none, as in the official package/],
    ['stretched positions', { rotary: { size: 64, base: 10000, scaling: { kind: 'linear', factor: 2 } } }, /saveModel: rotary\.scaling is one/],
  ])('%s has no word in the official package', (_, change, message) => {
    expect(() => mamba2Family.write({ ...published, attention: { ...published.attention, ...change } as never })).toThrow(message);
  });
});

describe('options by name', () => {
  test.each<[typeof mamba2Family | typeof bambaFamily, Record<string, number | string>, object]>([
    [mamba2Family, { vocabularySize: 256, dModel: 128, layers: 4 }, { headSize: 64, dInner: 256, attention: null }],
    [mamba2Family, { vocabularySize: 256, dModel: 100, layers: 4, expand: 3 }, { headSize: 60, dInner: 300 }],
    [mamba2Family, { vocabularySize: 256, dModel: 128, layers: 4, attentionLayers: '1,3', heads: 4, inner: 256 }, { attentionLayers: [1, 3], inner: 256, attention: { heads: 4, headSize: 32, rotary: { size: 16 }, convWidth: 4 } }],
    [mamba2Family, { size: '780m' }, { dModel: 1536, layers: 48, vocabularySize: 50288 }],
    [bambaFamily, { vocabularySize: 256, dModel: 128, layers: 4 }, { attentionLayers: [2], heads: 2, rotary: { size: 32 }, mamba: { headSize: 64, dInner: 256 } }],
    [bambaFamily, { vocabularySize: 256, dModel: 128, layers: 20, attentionLayers: 7, dState: 16 }, { attentionLayers: [7], mamba: { dState: 16 } }],
    [bambaFamily, { vocabularySize: 256, dModel: 128, layers: 21 }, { attentionLayers: [7, 14] }],
  ])('%#', (family, options, expected) => {
    expect(family.configOf(options)).toMatchObject(expected);
  });

  test.each<[typeof mamba2Family | typeof bambaFamily, Record<string, number | string>, RegExp]>([
    [mamba2Family, { dtRank: 3 }, /configOf \(mamba2\): options is 'dtRank'; expected one of vocabularySize/],
    [mamba2Family, { size: '790m' }, /configOf \(mamba2\): size is '790m'; expected one of 130m, 370m/],
    [mamba2Family, { vocabularySize: 256, dModel: 128, layers: 4, inner: 100 }, /mamba2Config: inner is 100; expected a multiple of 128, or 0/],
    [mamba2Family, { vocabularySize: 256, dModel: 128, layers: 4, attentionLayers: '1;3' }, /attentionLayers is '1;3'; expected layers from 0, as 9,18,27/],
    [bambaFamily, { size: '8b' }, /configOf \(bamba\): size is '8b'; expected '9b'/],
    [bambaFamily, { vocabularySize: 256, dModel: 128, layers: 4, attentionLayers: '3,1' }, /bambaConfig: attentionLayers\[1\] is 1; expected layers from 0 to 3/],
    [bambaFamily, { vocabularySize: 256, dModel: 128, layers: 4, dtRank: 3 }, /configOf \(bamba\): options is 'dtRank'/],
  ])('%# is refused', (family, options, message) => {
    expect(() => family.configOf(options)).toThrow(message);
  });
});

test.each([
  ['130m', 128_989_632],
  ['2.7b', 2_702_599_680],
])('mamba2-%s has %i parameters', (size, count) => {
  const { parameters } = LanguageModel.initial(mamba2Family, mamba2Family.configOf({ size }), new PlanBackend(), 0);
  expect(parameters.reduce((sum, { tensor }) => sum + tensor.size, 0)).toBe(count);
});

test('the layers of mamba2attn-2.7b', () => {
  const { parameters } = LanguageModel.initial(mamba2Family, mamba2Family.read(hybrid, 'config.json', () => undefined), new PlanBackend(), 0);
  const shapes = Object.fromEntries(parameters.map(({ key, tensor }) => [key, tensor.shape]));
  expect(shapes).toMatchObject({
    'backbone.layers.8.mixer.in_proj.weight': [10576, 2560],
    'backbone.layers.9.mixer.in_proj.weight': [11520, 2560],
    'backbone.layers.9.mixer.conv1d.weight': [11520, 1, 4],
    'backbone.layers.9.mixer.conv1d.bias': [11520],
    'backbone.layers.9.mixer.out_proj.weight': [2560, 3840],
  });
});
