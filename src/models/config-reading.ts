/** What the readers of all families' config.json share. */
import { platform } from '#platform';
import { readJsonObject } from '../io/json-file.js';
import { ArgumentError, CheckpointError } from '../util/errors.js';
import { didYouMean } from '../util/nearest.js';
import { brief } from '../util/schema.js';
import { unreadKey, type OnWarning } from './config-keys.js';
import type { BaseConfig, FamilyOptions } from './family.js';

/**
 * Throws where a config.json says that the weights are quantized.
 * @throws CheckpointError
 */
export function refuseQuantized(json: object, file: string): void {
  const { quantization_config: quantization } = json as { quantization_config?: unknown };
  if (quantization === undefined || quantization === null) return;
  const { quant_method: method } = quantization as { quant_method?: unknown };
  const by = typeof method === 'string' ? `by ${method}` : brief(quantization);
  const hint = 'load the weights that were quantized, and make them small with elapid quantize';
  throw new CheckpointError(`the weights are quantized ${by}; expected plain ones. Hint: ${hint}`, { file, key: 'quantization_config' });
}

/** The value of one setting under several keys. @throws CheckpointError where two of them differ */
export function agreement<T>(file: string, settings: readonly (readonly [key: string, value: T | undefined])[]): T | undefined {
  const given = settings.filter(([, value]) => value !== undefined);
  const [first] = given;
  const other = given.find(([, value]) => value !== first?.[1]);
  if (first === undefined || other === undefined) return first?.[1];
  throw new CheckpointError(`is ${brief(first[1])}, but '${other[0]}' is ${brief(other[1])}; expected the same`, { file, key: first[0] });
}

/** What `make` gives; an ArgumentError of its, as of sizes that cannot be, becomes one of the file. @throws CheckpointError */
export function configOfFile<C extends BaseConfig>(file: string, make: () => C): C {
  try {
    return make();
  } catch (cause) {
    if (!(cause instanceof ArgumentError)) throw cause;
    throw new CheckpointError(cause.message.replace(/^\w+: /, ''), { file }, { cause });
  }
}

export const endOfTextKey = 'eos_token_id';

/** The ids that end a text, where a file says so. */
export function endOfTextOf(json: object, vocabularySize: number, file: string): readonly number[] | undefined {
  const { [endOfTextKey]: value } = json as { [endOfTextKey]?: unknown };
  if (value === undefined || value === null) return undefined;
  const ids = Array.isArray(value) ? (value as unknown[]) : [value];
  for (const id of ids) {
    if (typeof id === 'number' && Number.isInteger(id) && id >= 0 && id < vocabularySize) continue;
    const expected = `an id below ${vocabularySize}, the size of the vocabulary, or a list of such`;
    throw new CheckpointError(`is ${brief(value)}; expected ${expected}`, { file, key: endOfTextKey });
  }
  return [...new Set(ids as number[])];
}

/** The value of `eos_token_id` that says which ids end a text; transformers would take 0 where the key is missing. */
export const endOfTextValue = (ids: readonly number[]): number | readonly number[] | null => (ids.length === 1 ? (ids[0] ?? null) : ids.length === 0 ? null : ids);

/** Warns of the keys that are not `known`, unless they change nothing here. */
export function warnOfUnread(json: object, { file, known, onWarning }: { file: string; known: readonly string[]; onWarning: OnWarning }): void {
  for (const [key, value] of Object.entries(json)) {
    const unread = known.includes(key) ? 'nothing' : unreadKey(key, value);
    if (unread === 'not applied') {
      onWarning(`${file}, key '${key}': is ${brief(value)}, and has no effect: generation is set by its options alone`);
    } else if (unread === 'unknown') {
      onWarning(`${file}, key '${key}': is not a key that is known here, and has no effect${didYouMean(key, known)}`);
    }
  }
}

/**
 * The config, with the ids that end a text taken from the generation_config.json beside it, if that names any.
 * @param configName the path of config.json
 * @throws CheckpointError when the file is damaged, or names ids that are not in the vocabulary
 */
export async function withGenerationConfig<C extends BaseConfig>(config: C, configName: string, onWarning: OnWarning): Promise<C> {
  // A GGUF file says all of it itself.
  if (configName.endsWith('.gguf')) return config;
  const file = configName.replace(/[^/\\]*$/, 'generation_config.json');
  if ((await platform.pathKind(file)) !== 'file') return config;
  const { value } = await readJsonObject(file, { pythonFloats: true });
  const endOfText = endOfTextOf(value, config.vocabularySize, file);
  warnOfUnread(value, { file, known: [endOfTextKey], onWarning });
  return endOfText === undefined ? config : { ...config, endOfText };
}

/**
 * Throws where an option is none of a family's.
 * @throws ArgumentError of the argument 'options'
 */
export function expectOptions(family: string, options: FamilyOptions, known: readonly string[]): void {
  const stranger = Object.keys(options).find((key) => !known.includes(key));
  if (stranger === undefined) return;
  const expected = `one of ${known.join(', ')}`;
  throw new ArgumentError({ operation: `configOf (${family})`, argument: 'options', expected, got: `'${stranger}'` });
}

/**
 * The layers that an option lists, as `9,18,27`: a command line has no lists.
 * @throws ArgumentError where it is no list of integers
 */
export function layerList(operation: string, argument: string, value: number | string | boolean): number[] {
  const text = String(value);
  if (!/^\d+(,\d+)*$/.test(text)) throw new ArgumentError({ operation, argument, expected: 'layers from 0, as 9,18,27', got: `'${text}'` });
  return text.split(',').map(Number);
}

/**
 * What a family's published size of a name is.
 * @throws ArgumentError where there is none of that name
 */
export function sizeNamed<T>(family: string, sizes: Readonly<Record<string, T>>, name: FamilyOptions[string]): T {
  if (Object.hasOwn(sizes, String(name))) return sizes[String(name)] as T;
  throw new ArgumentError({ operation: `configOf (${family})`, argument: 'size', expected: `one of ${Object.keys(sizes).join(', ')}`, got: `'${String(name)}'` });
}
