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
}

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
