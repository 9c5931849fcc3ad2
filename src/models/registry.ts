import { warnOnConsole, type OnWarning } from './config-keys.js';
import { withGenerationConfig } from './config-reading.js';
import { readJsonObject } from '../io/json-file.js';
import { bambaFamily } from './bamba/family.js';
import { falconMambaFamily } from './falcon-mamba/family.js';
import type { BaseConfig, ConfigJson, ModelFamily } from './family.js';
import { gptNeoxFamily } from './gpt-neox/family.js';
import { gruFamily } from './gru/family.js';
import { mambaFamily } from './mamba/family.js';
import { mamba2Family } from './mamba2/family.js';
import { moeMambaFamily } from './moe-mamba/family.js';
import { s4dFamily, s4Family } from './s4/family.js';
import { switchTransformerFamily } from './switch-transformer/family.js';
import { transformerFamily } from './transformer/family.js';
import { ArgumentError, CheckpointError } from '../util/errors.js';
import { didYouMean } from '../util/nearest.js';
import { brief } from '../util/schema.js';

/** All known families: the package's own, then the registered ones. */
const families: ModelFamily[] = [mambaFamily, falconMambaFamily, mamba2Family, bambaFamily, transformerFamily, gptNeoxFamily, gruFamily, s4dFamily, s4Family, moeMambaFamily, switchTransformerFamily];

/** A model without weights. */
export interface DescribedModel<C extends BaseConfig = BaseConfig> {
  readonly family: ModelFamily<C>;
  readonly config: C;
}

/**
 * Makes a family known: `loadModel` and the command line's programs read its checkpoints from then on.
 * @throws ArgumentError when a family of that name, or of one of its `model_type`s, is known
 */
export function registerFamily<C extends BaseConfig>(family: ModelFamily<C>): void {
  for (const known of families) {
    const type = family.modelTypes.find((name) => known.modelTypes.includes(name));
    if (known.name !== family.name && type === undefined) continue;
    const got = type === undefined ? `'${family.name}', which is known` : `'${type}', a type of the family '${known.name}'`;
    throw new ArgumentError({ operation: 'registerFamily', argument: type === undefined ? 'name' : 'modelTypes', expected: 'a new one', got });
  }
  families.push(family);
}

/**
 * A family by its name.
 * @throws ArgumentError when none that is known has it
 */
export function familyNamed(name: string): ModelFamily {
  const family = families.find((known) => known.name === name);
  if (family !== undefined) return family;
  const hint = didYouMean(name, familyNames()).replace(/^\. Hint: /, '');
  const expected = `one of ${familyNames().join(', ')}`;
  throw new ArgumentError({ operation: 'familyNamed', argument: 'name', expected, got: `'${name}'`, hint: hint === '' ? undefined : hint });
}

/** The names of the families that are known. */
export const familyNames = (): string[] => families.map(({ name }) => name);

/** What a published model is called: the family's name and the size's, but for sizes that are called after a model, as `mambabyte-353m`. */
const publishedName = (family: string, size: string): string => (/^\d/.test(size) ? `${family}-${size}` : size);

/** The names of the published models whose sizes are known, as `mamba-130m`. */
export const publishedNames = (): string[] => families.flatMap(({ name, sizes = [] }) => sizes.map((size) => publishedName(name, size)));

/** A published model by its name (`publishedNames`), without weights; undefined where there is none. */
export function publishedModel(name: string): DescribedModel | undefined {
  for (const family of families) {
    const size = family.sizes?.find((one) => name === publishedName(family.name, one));
    if (size !== undefined) return { family, config: family.configOf({ size }) };
  }
  return undefined;
}

/** The family of models that are made without naming one. */
export const defaultFamily = 'mamba';

/**
 * The family and the config that a config.json describes.
 * @param file its path, for messages
 * @throws CheckpointError naming the key that is missing or wrong, or asks for what its family is not
 */
export function describedBy(json: unknown, file: string, onWarning: OnWarning): DescribedModel {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) throw new CheckpointError('expected a JSON object', { file });
  const family = familyOf(json as ConfigJson, file);
  return { family, config: family.read(json as ConfigJson, file, onWarning) };
}

/**
 * Reads a config.json without weights, and the generation_config.json beside it.
 * @param onWarning told of each key that has no effect here; default: the console
 * @throws CheckpointError as `loadModel`, or when a file cannot be read or is no JSON object
 */
export async function readConfigFile(file: string, onWarning: OnWarning = warnOnConsole): Promise<DescribedModel> {
  const { value } = await readJsonObject(file, { pythonFloats: true });
  const { family, config } = describedBy(value, file, onWarning);
  return { family, config: await withGenerationConfig(config, file, onWarning) };
}

function familyOf(json: ConfigJson, file: string): ModelFamily {
  const type = json['model_type'];
  const types = families.flatMap(({ modelTypes }) => modelTypes);
  if (type === undefined) {
    const family = families.find((candidate) => candidate.recognises?.(json) === true);
    if (family !== undefined) return family;
    const problem = `is missing; expected ${quoted(types)} (the config.json of transformers), or d_model (that of state-spaces/mamba)`;
    throw new CheckpointError(problem, { file, key: 'model_type' });
  }
  const family = families.find(({ modelTypes }) => typeof type === 'string' && modelTypes.includes(type));
  if (family !== undefined) return family;
  const hint = typeof type === 'string' ? didYouMean(type, types) : '';
  throw new CheckpointError(`is ${brief(type)}; expected ${quoted(types)}${hint}`, { file, key: 'model_type' });
}

const quoted = (names: readonly string[]): string => `"${names.slice(0, -1).join('", "')}" or "${names.at(-1) ?? ''}"`;
