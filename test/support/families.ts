/** The model families that the conformance suite and the goldens run: a family more is a row more. */
import { bambaFamily, falconMambaFamily, gptNeoxFamily, gruFamily, LanguageModel, mamba2Family, mambaFamily, moeMambaFamily, s4dFamily, s4Family, switchTransformerFamily, transformerFamily, type BaseConfig, type FamilyOptions, type ModelFamily } from '../../src/models/index.js';
import { initialParameters } from '../../src/nn/index.js';
import type { Backend } from '../../src/tensor/index.js';
import { Random } from '../../src/util/random.js';
import { smallConfig } from './models.js';

/** Another form of a family's small model. */
export interface Variant {
  /** For `make`. */
  readonly options: Readonly<Record<string, unknown>>;
}

/** What a family is tested with. */
export interface FamilyRow {
  readonly name: string;
  /** A small model with random weights and a vocabulary of 23. Odd sizes everywhere, so that nothing fits the kernels' widths by luck. */
  readonly make: (backend: Backend, options?: Variant['options']) => LanguageModel;
  readonly variants: readonly Variant[];
  /** Whether tokens choose parts of the model, so that rounding may send one elsewhere. */
  readonly chooses?: true;
  /** What makes a model whose state has other sizes. */
  readonly otherState: Variant['options'];
  /** Models of the family's authors or of transformers', with what they compute in float64. */
  readonly goldens: readonly GoldenModel[];
}

/** A folder of a model, with what it computes. */
export interface GoldenModel {
  readonly folder: string;
  /** Whether it has a left-padded batch, `padded.safetensors`. */
  readonly padded?: true;
  /** Folders of the same weights in other dialects. */
  readonly dialects?: readonly string[];
  /** What hidden.i is of layer i: its output or its input, and the last one normed; or, of 'stream', its input, and the last one the last layer's output. */
  readonly hidden: 'output' | 'input' | 'stream';
}

/**
 * A model whose parameters are away from where they start: norms are not 1, biases not 0, and step sizes large enough for every path to
 * have an effect that is far above rounding.
 */
function lively<C extends BaseConfig>(family: ModelFamily<C>, config: C, backend: Backend): LanguageModel<C> {
  const source = initialParameters(backend, 3);
  let made = 0;
  return new LanguageModel(family, config, backend, (key, request) => {
    const random = new Random(100 + made++);
    const deviation = Math.min(0.3, request.shape.length < 2 ? 1 : (request.shape.at(-1) ?? 1) ** -0.5);
    const initialiser: typeof request.initialiser = (...about) => request.initialiser(...about).map((value) => value + deviation * random.normal());
    return source(key, { ...request, initialiser });
  });
}

const mamba: FamilyRow = {
  name: 'mamba',
  make: (backend, options) => lively(mambaFamily, smallConfig(options), backend),
  variants: [
    { options: {} },
    { options: { norm: 'layer', projectionBias: true, convBias: false, tiedHead: false, dConv: 1 } },
    { options: { ssm: 'lti' } },
    // Extents that a GPU's fused step takes.
    { options: { dModel: 32, dState: 16, dConv: 4, dtRank: 4 } },
  ],
  otherState: { dState: 4 },
  goldens: [{ folder: 'hf-mamba', padded: true, dialects: ['state-spaces-mamba'], hidden: 'output' }],
};

const falconMamba: FamilyRow = {
  name: 'falcon-mamba',
  make(backend, options = {}) {
    const sizes = { vocabularySize: 23, dModel: 20, layers: 2, dState: 5, dConv: 3, dtRank: 3, embeddingDeviation: 0.5 };
    return lively(falconMambaFamily, { ...falconMambaFamily.configOf(sizes), ...options }, backend);
  },
  // In the second, what Δ is made of is wider than B and C.
  variants: [{ options: {} }, { options: { tiedHead: false, projectionBias: true, convBias: false, dtRank: 7 } }],
  otherState: { dState: 4 },
  goldens: [{ folder: 'hf-falcon-mamba', hidden: 'output' }],
};

const mamba2: FamilyRow = {
  name: 'mamba2',
  make(backend, options = {}) {
    const sizes = { vocabularySize: 23, dModel: 20, layers: 2, headSize: 5, dState: 7, dConv: 3, embeddingDeviation: 0.5 };
    return lively(mamba2Family, { ...mamba2Family.configOf(sizes), ...options }, backend);
  },
  variants: [
    { options: {} },
    // Options of the official block: some channels without a state, and norms in groups before the gate.
    {
      options: {
        ...{ groups: 2, gatedNorm: { epsilon: 1e-5, groups: 2, normBeforeGate: true }, dSsm: 30, skipPerChannel: true, dtLimit: [0.01, 0.5] },
        ...{ projectionBias: true, convBias: false, tiedHead: false, norm: 'layer', dConv: 1 },
      },
    },
    // The official hybrid with all that its attention layers can have.
    {
      options: {
        ...{ gatedNorm: null, inner: 128, attentionLayers: [1] },
        attention: {
          ...{ dModel: 20, heads: 4, kvHeads: 2, headSize: 6, inputBias: true, outputBias: false, convWidth: 3, unit: 128 },
          rotary: { size: 4, base: 100, scaling: null },
        },
      },
    },
  ],
  otherState: { dState: 4 },
  goldens: [
    { folder: 'hf-mamba2', padded: true, hidden: 'output' },
    { folder: 'state-spaces-mamba2', hidden: 'output' },
    { folder: 'mamba2/hybrid-lm', hidden: 'stream' },
  ],
};

const bamba: FamilyRow = {
  name: 'bamba',
  make(backend, options = {}) {
    const sizes = { heads: 4, headSize: 6, kvHeads: 2, inner: 27, contextLength: 64, rotary: { size: 2, base: 100, scaling: null } };
    const config = bambaFamily.configOf({ vocabularySize: 23, dModel: 20, layers: 2, dState: 7, dConv: 3, mambaHeadSize: 5 });
    const { mamba: changed = {}, ...others } = options as { mamba?: object };
    return lively(bambaFamily, { ...config, ...sizes, ...others, mamba: { ...config.mamba, ...changed } }, backend);
  },
  // Its options are those of the rows of Transformers and Mamba-2.
  variants: [{ options: {} }],
  otherState: { mamba: { dState: 4 } },
  goldens: [{ folder: 'hf-bamba', padded: true, hidden: 'input' }],
};

const transformer: FamilyRow = {
  name: 'transformer',
  make(backend, options = {}) {
    const sizes = { vocabularySize: 23, dModel: 20, layers: 2, heads: 4, headSize: 6, kvHeads: 2, inner: 27, contextLength: 64 };
    const rotary = { size: 6, base: 100, scaling: null };
    return lively(transformerFamily, { ...transformerFamily.configOf({ vocabularySize: 23, dModel: 20, layers: 2 }), ...sizes, rotary, ...options }, backend);
  },
  variants: [
    { options: {} },
    { options: { tiedHead: false, inputBias: true, outputBias: true, feedForwardBias: true, kvHeads: 1, window: 5, rotary: { size: 4, base: 100, scaling: { kind: 'linear', factor: 3 } } } },
  ],
  otherState: { kvHeads: 4 },
  goldens: [{ folder: 'hf-llama', hidden: 'input' }],
};

const gptNeox: FamilyRow = {
  name: 'gpt-neox',
  make(backend, options = {}) {
    const sizes = { dModel: 24, heads: 4, headSize: 6, kvHeads: 4, inner: 31, contextLength: 64, rotary: { size: 4, base: 100, scaling: null } };
    return lively(gptNeoxFamily, { ...gptNeoxFamily.configOf({ vocabularySize: 23, dModel: 24, layers: 2, heads: 4 }), ...sizes, ...options }, backend);
  },
  variants: [{ options: {} }, { options: { tiedHead: true, parallelResidual: false, inputBias: false, outputBias: false, activation: 'geluTanh' } }],
  otherState: { heads: 2, headSize: 12, kvHeads: 2, rotary: { size: 4, base: 100, scaling: null } },
  goldens: [{ folder: 'hf-gpt-neox', hidden: 'input' }],
};

const gru: FamilyRow = {
  name: 'gru',
  make: (backend, options = {}) =>
    lively(gruFamily, gruFamily.configOf({ vocabularySize: 23, dModel: 17, layers: 2, embeddingDeviation: 0.5, ...(options as FamilyOptions) }), backend),
  // The head is that of all families.
  variants: [{ options: {} }],
  otherState: { dModel: 11, tiedHead: false },
  goldens: [],
};

const s4d: FamilyRow = {
  name: 's4d',
  make: (backend, options = {}) =>
    lively(s4dFamily, { ...s4dFamily.configOf({ vocabularySize: 23, dModel: 15, layers: 2, dState: 10, embeddingDeviation: 0.5 }), ...options }, backend),
  variants: [
    { options: {} },
    { options: { init: 'diag-inv', discretization: 'bilinear', channels: 2, sets: 5, dtTransform: 'softplus', dtTied: false, tiedHead: false } },
  ],
  otherState: { dState: 6 },
  goldens: [],
};

const s4: FamilyRow = {
  name: 's4',
  make: (backend, options = {}) =>
    lively(s4Family, { ...s4Family.configOf({ vocabularySize: 23, dModel: 21, layers: 2, dState: 10, embeddingDeviation: 0.5 }), ...options }, backend),
  // Rank 2 and C̃ are in the goldens of blocks.
  variants: [{ options: {} }],
  otherState: { dState: 6 },
  goldens: [],
};

const moeMamba: FamilyRow = {
  name: 'moe-mamba',
  make(backend, options = {}) {
    const sizes = { vocabularySize: 23, dModel: 20, layers: 2, dState: 5, dConv: 3, dtRank: 3, experts: 3, expertSize: 14, embeddingDeviation: 0.5 };
    return lively(moeMambaFamily, { ...moeMambaFamily.configOf(sizes), ...options }, backend);
  },
  variants: [{ options: {} }, { options: { parallel: true, tiedHead: true, experts: 1, zWeight: 0.001 } }],
  chooses: true,
  otherState: { dState: 4 },
  // `moe-mamba.test.ts` has the goldens: they are of training, with tokens dropped.
  goldens: [],
};

const switchTransformer: FamilyRow = {
  name: 'switch-transformer',
  make(backend, options = {}) {
    const sizes = { heads: 4, headSize: 6, kvHeads: 2, contextLength: 64, rotary: { size: 6, base: 100, scaling: null } };
    const config = switchTransformerFamily.configOf({ vocabularySize: 23, dModel: 20, layers: 2, experts: 3, expertSize: 14 });
    return lively(switchTransformerFamily, { ...config, ...sizes, ...options }, backend);
  },
  variants: [{ options: {} }],
  chooses: true,
  otherState: { kvHeads: 4 },
  goldens: [],
};

export const families: readonly FamilyRow[] = [mamba, falconMamba, mamba2, bamba, transformer, gptNeox, gru, s4d, s4, moeMamba, switchTransformer];
