import { attention, reshape, rotary, rotaryTable, split, type AttentionCache } from '../../ops/index.js';
import { Linear, normal, type Initialiser, type Memory, type Mixer, type Normed, type ParameterStore, type Pass, type Places, type Slot, type StepPass } from '../../nn/index.js';
import { scope, type FloatDType, type Tensor } from '../../tensor/index.js';
import { rotaryFrequencies, type AttentionConfig } from './config.js';

/** What checkpoints call the projections: one each for queries, keys and values, or one for all, head by head. */
export type AttentionNames =
  | { readonly query: string; readonly key: string; readonly value: string; readonly output: string }
  | { readonly byHead: string; readonly output: string };

/** Queries, keys and values [B,L,heads,P]. */
type Projected = readonly [q: Tensor, k: Tensor, v: Tensor];

/** How the normed input becomes queries, keys and values. */
interface Projection {
  /** @param x [B,L,D] */
  project(x: Tensor): Projected;
}

/**
 * Causal self-attention with grouped queries and rotary positions (`attention`, `rotary`): project to queries, keys and values, turn
 * queries and keys by their positions, attend, project back. It remembers the turned keys and the values of all positions.
 */
export class AttentionMixer implements Mixer {
  readonly slots: Readonly<Record<'keys' | 'values', Slot>>;
  readonly outProj: Linear;
  readonly #projection: Projection;
  readonly #config: AttentionConfig;
  /** Of rotary frequencies; null: no positions. */
  readonly #table: Tensor | null;

  /** @param options.deviation standard deviation of the initial weights */
  constructor(parameters: ParameterStore, config: AttentionConfig, names: AttentionNames, { deviation, outputDeviation = deviation }: { readonly deviation: number; readonly outputDeviation?: number }) {
    const { dModel, heads, kvHeads, headSize, outputBias } = config;
    const slot = { shape: [kvHeads, headSize], perPosition: true } as const;
    this.slots = { keys: slot, values: slot };
    const initialiser = normal(deviation);
    this.#projection = 'byHead' in names ? new ByHead(parameters.at(names.byHead), config, initialiser) : new Apart(parameters, config, names, initialiser);
    this.outProj = new Linear(parameters.at(names.output), { inputs: heads * headSize, outputs: dModel, bias: outputBias, initialiser: normal(outputDeviation) });
    this.#config = config;
    const { rotary: turned } = config;
    this.#table = turned === null ? null : parameters.hold(rotaryTable(this.outProj.weight.tensor.backend, rotaryFrequencies(turned)));
  }

  forward(x: Tensor, { before, places }: Pass = {}): Tensor<FloatDType> {
    return scope(() => this.#attend(x, before, places));
  }

  step(x: Normed, { memory, places }: StepPass): Tensor<FloatDType> {
    const value = x.value();
    const [batch = 0, width = 0] = value.shape;
    return scope(() => {
      const begins = places?.begins && reshape(places.begins, [batch, 1]);
      const y = this.#attend(reshape(value, [batch, 1, width]), memory, { ...places, begins });
      return reshape(y, [batch, width]);
    });
  }

  #attend(x: Tensor, memory: Memory | undefined, places: Places = {}): Tensor<FloatDType> {
    const { window, heads, headSize } = this.#config;
    const { begins, positions } = places;
    const [q, k, v] = this.#projection.project(x);
    const turned = (rows: Tensor) => (this.#table === null ? rows : rotary(rows, this.#table, { positions }));
    const y = attention(turned(q), turned(k), v, { window, begins, cache: cacheOf(memory, places) });
    const [batch = 0, length = 0] = x.shape;
    return this.outProj.forward(reshape(y, [batch, length, heads * headSize]));
  }
}

/** Where the keys and values of earlier positions are; undefined where none are remembered. */
function cacheOf(memory: Memory | undefined, { positions, pages }: Places): AttentionCache | undefined {
  const { keys, values } = memory ?? {};
  return keys && values && positions && pages ? { keys, values, positions, pages } : undefined;
}

/** A projection for each of the three. */
class Apart implements Projection {
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
    return this.#linears.map(([linear, heads]) => reshape(linear.forward(x), [batch, length, heads, this.#headSize])) as unknown as Projected;
  }
}

/** One projection, of which the first head's query, key and value come first, as in GPT-NeoX; as many heads of keys as of queries. */
class ByHead implements Projection {
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
    return split(reshape(this.#linear.forward(x), [batch, length, this.#heads, 3 * size]), [size, size, size]) as unknown as Projected;
  }
}
