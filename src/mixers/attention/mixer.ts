import { attention, concatenate, gated, reshape, rotary, rotaryTable, split, type AttentionCache } from '../../ops/index.js';
import { CausalConv1d, Linear, normal, type Initialiser, type Memory, type Mixer, type Normed, type ParameterStore, type Pass, type Places, type Slot, type StepPass } from '../../nn/index.js';
import { scope, type FloatDType, type Tensor } from '../../tensor/index.js';
import { ArgumentError } from '../../util/errors.js';
import { rotaryFrequencies, type AttentionConfig } from './config.js';

/**
 * What checkpoints call the projections: one each for queries, keys and values; one for all, head by head; or one for all, first every
 * query, then every key, then every value, with a convolution over them where the config has one.
 */
export type AttentionNames =
  | { readonly query: string; readonly key: string; readonly value: string; readonly output: string }
  | { readonly byHead: string; readonly output: string }
  | { readonly stacked: string; readonly conv: string; readonly output: string };

/** What the normed input becomes. */
interface Projected {
  /** Queries, keys and values [B,L,heads,P]. */
  readonly heads: readonly [q: Tensor, k: Tensor, v: Tensor];
  /** [B,L,·]: what out_proj reads after the heads. */
  readonly unit?: Tensor;
}

/** How a convolution runs over x [B,L,C]: as its memory, and a pass or a step, have it. */
type Convolve = (conv: CausalConv1d, x: Tensor) => Tensor;

/** How the normed input becomes queries, keys and values. */
interface Projection {
  /** Memory of its own. */
  readonly slots: Readonly<Record<string, Slot>>;
  /** @param x [B,L,D] */
  project(x: Tensor, convolve: Convolve): Projected;
}

/**
 * Causal self-attention with grouped queries and rotary positions (`attention`, `rotary`): project to queries, keys and values, turn
 * queries and keys by their positions, attend, project back. It remembers the turned keys and the values of all positions, and of a
 * convolution the last K−1 inputs.
 */
export class AttentionMixer implements Mixer {
  readonly slots: Readonly<Record<string, Slot>>;
  readonly outProj: Linear;
  readonly #projection: Projection;
  readonly #config: AttentionConfig;
  /** Of rotary frequencies; null: no positions. */
  readonly #table: Tensor | null;

  /** @param options.deviation standard deviation of the initial weights */
  constructor(parameters: ParameterStore, config: AttentionConfig, names: AttentionNames, { deviation, outputDeviation = deviation }: { readonly deviation: number; readonly outputDeviation?: number }) {
    const { dModel, heads, kvHeads, headSize, outputBias, unit = 0 } = config;
    const slot = { shape: [kvHeads, headSize], perPosition: true } as const;
    this.#projection = projectionOf(parameters, config, names, normal(deviation));
    this.slots = { keys: slot, values: slot, ...this.#projection.slots };
    this.outProj = new Linear(parameters.at(names.output), { inputs: heads * headSize + unit, outputs: dModel, bias: outputBias, initialiser: normal(outputDeviation) });
    this.#config = config;
    const { rotary: turned } = config;
    this.#table = turned === null ? null : parameters.hold(rotaryTable(this.outProj.weight.tensor.backend, rotaryFrequencies(turned)));
  }

  forward(x: Tensor, { before, after, starts, places }: Pass = {}): Tensor<FloatDType> {
    const states = { initialState: before?.['conv'], finalState: after?.['conv'], sequenceStarts: starts };
    return scope(() => this.#attend(x, before, places, (conv, rows) => conv.forward(rows, states).y));
  }

  step(x: Normed, { memory, places }: StepPass): Tensor<FloatDType> {
    const value = x.value();
    const [batch = 0, width = 0] = value.shape;
    return scope(() => {
      const begins = places?.begins && reshape(places.begins, [batch, 1]);
      const y = this.#attend(reshape(value, [batch, 1, width]), memory, { ...places, begins }, (conv, rows) =>
        reshape(conv.step(memory['conv'] as Tensor, reshape(rows, [batch, rows.columns])), rows.shape),
      );
      return reshape(y, [batch, width]);
    });
  }

  #attend(x: Tensor, memory: Memory | undefined, places: Places = {}, convolve: Convolve): Tensor<FloatDType> {
    const { window, heads, headSize } = this.#config;
    const { begins, positions } = places;
    const { heads: [q, k, v], unit } = this.#projection.project(x, convolve);
    const turned = (rows: Tensor) => (this.#table === null ? rows : rotary(rows, this.#table, { positions }));
    const attended = attention(turned(q), turned(k), v, { window, begins, cache: cacheOf(memory, places) });
    const [batch = 0, length = 0] = x.shape;
    const y = reshape(attended, [batch, length, heads * headSize]);
    return this.outProj.forward(unit === undefined ? y : concatenate([y, unit]));
  }
}

function projectionOf(parameters: ParameterStore, config: AttentionConfig, names: AttentionNames, initialiser: Initialiser): Projection {
  if ('stacked' in names) return new Stacked(parameters, config, names, initialiser);
  for (const argument of ['convWidth', 'unit'] as const) {
    if ((config[argument] ?? 0) === 0) continue;
    throw new ArgumentError({ operation: 'AttentionMixer', argument, expected: 'none, where no projection gives queries, keys and values one after the other', got: String(config[argument]) });
  }
  return 'byHead' in names ? new ByHead(parameters.at(names.byHead), config, initialiser) : new Apart(parameters, config, names, initialiser);
}

/** Where the keys and values of earlier positions are; undefined where none are remembered. */
function cacheOf(memory: Memory | undefined, { positions, pages }: Places): AttentionCache | undefined {
  const { keys, values } = memory ?? {};
  return keys && values && positions && pages ? { keys, values, positions, pages } : undefined;
}

/** A projection for each of the three. */
class Apart implements Projection {
  readonly slots = {};
  readonly #linears: readonly (readonly [linear: Linear, heads: number])[];
  readonly #headSize: number;

  constructor(parameters: ParameterStore, config: AttentionConfig, names: { readonly query: string; readonly key: string; readonly value: string }, initialiser: Initialiser) {
    const { dModel, heads, kvHeads, headSize, inputBias } = config;
    const to = (name: string, count: number) => new Linear(parameters.at(name), { inputs: dModel, outputs: count * headSize, bias: inputBias, initialiser });
    this.#linears = [[to(names.query, heads), heads], [to(names.key, kvHeads), kvHeads], [to(names.value, kvHeads), kvHeads]];
    this.#headSize = headSize;
  }

  project(x: Tensor): Projected {
    const [batch = 0, length = 0] = x.shape;
    const heads = this.#linears.map(([linear, count]) => reshape(linear.forward(x), [batch, length, count, this.#headSize]));
    return { heads: heads as unknown as Projected['heads'] };
  }
}

/** One projection, head by head: each head's query, key and value, as in GPT-NeoX. There are as many heads of keys as of queries. */
class ByHead implements Projection {
  readonly slots = {};
  readonly #linear: Linear;
  readonly #heads: number;
  readonly #headSize: number;

  constructor(parameters: ParameterStore, { dModel, heads, headSize, inputBias }: AttentionConfig, initialiser: Initialiser) {
    this.#linear = new Linear(parameters, { inputs: dModel, outputs: 3 * heads * headSize, bias: inputBias, initialiser });
    this.#heads = heads;
    this.#headSize = headSize;
  }

  project(x: Tensor): Projected {
    const [batch = 0, length = 0] = x.shape;
    const size = this.#headSize;
    const heads = split(reshape(this.#linear.forward(x), [batch, length, this.#heads, 3 * size]), [size, size, size]);
    return { heads: heads as unknown as Projected['heads'] };
  }
}

/**
 * One projection to all queries, then all keys, then all values, as in the attention layers of the official Mamba package. A causal
 * convolution over the three, without an activation, may follow. A gated unit may come last.
 */
class Stacked implements Projection {
  readonly slots: Readonly<Record<string, Slot>>;
  readonly #linear: Linear;
  readonly #conv: CausalConv1d | null;
  readonly #counts: readonly number[];
  readonly #headSize: number;
  readonly #unit: number;

  constructor(parameters: ParameterStore, config: AttentionConfig, names: { readonly stacked: string; readonly conv: string }, initialiser: Initialiser) {
    const { dModel, heads, kvHeads, headSize, inputBias, convWidth: width, unit = 0 } = config;
    const channels = (heads + 2 * kvHeads) * headSize;
    this.#linear = new Linear(parameters.at(names.stacked), { inputs: dModel, outputs: channels + 2 * unit, bias: inputBias, initialiser });
    this.#conv = width === undefined ? null : new CausalConv1d(parameters.at(names.conv), { channels, width, bias: true, activation: 'none' });
    this.slots = width === undefined ? {} : { conv: { shape: [width - 1, channels] } };
    this.#counts = [heads, kvHeads, kvHeads];
    this.#headSize = headSize;
    this.#unit = unit;
  }

  project(x: Tensor, convolve: Convolve): Projected {
    const [batch = 0, length = 0] = x.shape;
    const [counts, size, width] = [this.#counts, this.#headSize, this.#unit];
    const projected = this.#linear.forward(x);
    const [rows, up, gate] = (width === 0 ? [projected] : split(projected, [projected.columns - 2 * width, width, width])) as [Tensor, Tensor?, Tensor?];
    const parts = split(this.#conv === null ? rows : convolve(this.#conv, rows), counts.map((count) => count * size));
    const heads = parts.map((part, i) => reshape(part, [batch, length, counts[i] as number, size])) as unknown as Projected['heads'];
    return up && gate ? { heads, unit: gated(gate, up, 'silu') } : { heads };
  }
}
