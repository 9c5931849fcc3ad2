import type { Block, Embedding, Linear, Norm, ParameterStore } from '../nn/index.js';
import { describeValue, type ArgumentProblem } from '../util/errors.js';
import type { OnWarning } from './config-keys.js';

/** What the config of every language model has. */
export interface BaseConfig {
  /** V: number of token ids. */
  readonly vocabularySize: number;
  /** D */
  readonly dModel: number;
  readonly layers: number;
  /** Whether the head uses the embedding's weights. */
  readonly tiedHead: boolean;
  /** Ids that end a text, beside the tokenizer's own. */
  readonly endOfText: readonly number[];
  /** Positions of the sequences that it is trained on, where longer ones are of no use to it; none: any length. */
  readonly contextLength?: number;
}

/** The modules of a language model. */
export interface Parts {
  readonly embeddings: Embedding;
  readonly blocks: readonly Block[];
  /** Null: the head reads the stream as it is. */
  readonly finalNorm: Norm | null;
  /** Null: the head uses the embedding's weights. */
  readonly head: Linear | null;
}

/** What checkpoints call the parts of a model. */
export interface FamilyKeys {
  /** What holds all but the head: a checkpoint may leave it out of every key. */
  readonly trunk: string;
  /** Within the trunk. */
  readonly embedding: string;
  readonly layers: string;
  readonly finalNorm: string;
  /** Beside the trunk. */
  readonly head: string;
  /** Other names of the same parts in other dialects, without the prefixes of wrappers. */
  readonly renamed?: readonly (readonly [pattern: RegExp, replacement: string])[];
  /** Tensors that are no parameters, by their keys: what a program needs that made the file. */
  readonly ignored?: RegExp;
}

/** The names that transformers' Mamba has: of families that do not say otherwise. */
export const usualKeys: FamilyKeys = { trunk: 'backbone', embedding: 'embeddings', layers: 'layers', finalNorm: 'norm_f', head: 'lm_head' };

/** A config.json. */
export type ConfigJson = Readonly<Record<string, unknown>>;

/** Sizes and kinds of a model by name. */
export type FamilyOptions = Readonly<Record<string, number | string | boolean>>;

/** A line that `elapid inspect` prints. */
export type Fact = readonly [label: string, value: string];

/**
 * A kind of language model: how one is built from its parameters, and how its config.json is read and written. Families are data: one
 * `LanguageModel` runs them all.
 */
export interface ModelFamily<C extends BaseConfig = BaseConfig> {
  readonly name: string;
  /** The values of `model_type` in a config.json that are this family's. */
  readonly modelTypes: readonly string[];
  /** Whether a config.json without a `model_type` is this family's. */
  recognises?(json: ConfigJson): boolean;
  /**
   * The config that a config.json describes, in any dialect of the family.
   * @param file its path, for messages
   * @param onWarning told of each key that has no effect here
   * @throws CheckpointError naming the key that is missing, wrong, or asks for what the family is not
   */
  read(json: ConfigJson, file: string, onWarning: OnWarning): C;
  /**
   * The config.json of a model, as transformers reads it.
   * @throws ArgumentError where it cannot say what the config asks for
   */
  write(config: C): Record<string, unknown>;
  /** Default: `usualKeys`. */
  readonly keys?: FamilyKeys;
  /** The names of published models' sizes, for `configOf({ size })`: '130m', … */
  readonly sizes?: readonly string[];
  /**
   * A config from sizes by name, as `elapid train --model NAME` has them; what is left out has the family's default.
   * @param options `vocabularySize`, `dModel` and `layers`, or `size`, one of `sizes`; and what else the family has
   * @throws ArgumentError for an option that the family does not have, or a value that cannot be
   */
  configOf(options: FamilyOptions): C;
  /** What is wrong with a config: it is asked before anything of its sizes is made. */
  problemOf(config: C): ArgumentProblem | undefined;
  /** Makes the modules, asking the store for their parameters. */
  build(parameters: ParameterStore, config: C): Parts;
  /** What `elapid inspect` says of a config. */
  facts(config: C): readonly Fact[];
}

/** The most parameters that a config may ask for. */
const mostParameters = 2 ** 40;

/** What is wrong with a number of parameters. */
export function parameterProblem(parameters: number): ArgumentProblem | undefined {
  if (parameters <= mostParameters) return undefined;
  return { argument: 'the number of parameters', expected: `at most ${mostParameters.toPrecision(3)}`, got: parameters.toPrecision(3) };
}

/** What is wrong with the ids that end a text. */
export function endOfTextProblem({ endOfText, vocabularySize }: BaseConfig): ArgumentProblem | undefined {
  const stranger = endOfText.findIndex((id) => !(Number.isInteger(id) && id >= 0 && id < vocabularySize));
  if (stranger < 0) return undefined;
  return { argument: `endOfText[${stranger}]`, expected: `an id in [0, V) = [0, ${vocabularySize})`, got: describeValue(endOfText[stranger]) };
}
