import { mostTaps } from '../../ops/causal-conv1d/arguments.js';
import { describeValue, type ArgumentProblem } from '../../util/errors.js';

/** What an attention layer looks like. */
export interface AttentionConfig {
  /** D */
  readonly dModel: number;
  /** H: heads of queries. */
  readonly heads: number;
  /** G: heads of keys and values, a divisor of H. */
  readonly kvHeads: number;
  /** P: numbers a head. */
  readonly headSize: number;
  /** Whether the projections to queries, keys and values have a bias. */
  readonly inputBias: boolean;
  /** Whether the projection back has one. */
  readonly outputBias: boolean;
  /** Null: positions have no effect but by their order. */
  readonly rotary: RotaryConfig | null;
  /** Positions that a query sees, its own included; default: all before it. */
  readonly window?: number;
  /** K: width of a causal convolution over queries, keys and values, where one projection gives all three; none: there is none. */
  readonly convWidth?: number;
  /** Width of a gated unit beside the heads, up · silu(gate), where one projection gives all; none: there is none. */
  readonly unit?: number;
}

/** The largest sizes that a config may have. */
export const largestAttentionSizes = { heads: 4096, headSize: 256 } as const;

/** What is wrong with a config, D aside. */
export function attentionProblem(config: AttentionConfig): ArgumentProblem | undefined {
  const { heads, kvHeads, headSize, rotary, convWidth = 1, unit = 0 } = config;
  for (const [name, largest] of Object.entries(largestAttentionSizes)) {
    const value = config[name as keyof typeof largestAttentionSizes];
    if (!isSize(value, largest)) return { argument: name, expected: `an integer from 1 to ${largest}`, got: describeValue(value) };
  }
  if (!isSize(kvHeads, heads) || heads % kvHeads !== 0) return { argument: 'kvHeads', expected: `a divisor of heads = ${heads}`, got: describeValue(kvHeads) };
  if (rotary !== null && !(rotary.size >= 2 && rotary.size % 2 === 0 && rotary.size <= headSize)) {
    return { argument: 'rotary.size', expected: `an even number from 2 to headSize = ${headSize}`, got: describeValue(rotary.size) };
  }
  if (!isSize(convWidth, mostTaps)) return { argument: 'convWidth', expected: `an integer from 1 to ${mostTaps}`, got: describeValue(convWidth) };
  if (!isSize(unit + 1, 2 ** 24)) return { argument: 'unit', expected: `an integer from 0 to ${2 ** 24 - 1}`, got: describeValue(unit) };
  return undefined;
}

const isSize = (value: number, largest: number): boolean => Number.isInteger(value) && value >= 1 && value <= largest;

/** Numbers in the matrices of an attention layer. */
export const attentionMatrixSize = ({ dModel, heads, kvHeads, headSize, convWidth = 0, unit = 0 }: AttentionConfig): number =>
  dModel * (2 * headSize * (heads + kvHeads) + 3 * unit) + convWidth * headSize * (heads + 2 * kvHeads);

/** Rotary position embedding of queries and keys. */
export interface RotaryConfig {
  /** R: how many of a head's numbers are turned, the first ones. */
  readonly size: number;
  /** Frequencies are base^(−2i/R). */
  readonly base: number;
  readonly scaling: RotaryScaling | null;
}

/** How frequencies are changed for sequences longer than the model was first trained on. */
export type RotaryScaling =
  | { readonly kind: 'linear'; readonly factor: number }
  /** Llama 3.1: waves longer than contextLength/lowFactor are stretched, those shorter than contextLength/highFactor are not. */
  | { readonly kind: 'llama3'; readonly factor: number; readonly lowFactor: number; readonly highFactor: number; readonly contextLength: number };

/**
 * Radians a position, of each pair.
 *
 * Source: Su et al., "RoFormer" (2021), section 3.2.2; the scalings are those of transformers' `modeling_rope_utils`.
 */
export function rotaryFrequencies({ size, base, scaling }: RotaryConfig): number[] {
  return Array.from({ length: size / 2 }, (_, i) => {
    const frequency = base ** ((-2 * i) / size);
    if (scaling === null) return frequency;
    if (scaling.kind === 'linear') return frequency / scaling.factor;
    const { factor, lowFactor, highFactor, contextLength } = scaling;
    const waves = (contextLength * frequency) / (2 * Math.PI);
    const kept = Math.min(1, Math.max(0, (waves - lowFactor) / (highFactor - lowFactor)));
    return kept * frequency + ((1 - kept) * frequency) / factor;
  });
}
