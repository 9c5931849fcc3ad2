/** Values from files, checked against a schema, and in plain words what is wrong with them. */
import * as v from 'valibot';
import { CheckpointError, type CheckpointLocation } from './errors.js';
import { didYouMean } from './nearest.js';

/** A key that may be left out: a size, an integer from 1 to the largest there may be. */
export const size = (largest: number) => v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(largest)));
export const ratio = v.optional(v.pipe(v.number(), v.gtValue(0)));
export const real = v.optional(v.pipe(v.number(), v.finite()));
export const epsilon = v.optional(v.pipe(v.number(), v.minValue(0), v.finite()));
export const flag = v.optional(v.boolean());

/**
 * `value`, as the schema gives it back.
 * @param location the file; a `key` in it is where `value` stands
 * @param what completes "this is not …", for a reader who may have taken the wrong file
 * @throws CheckpointError naming the key that is missing, unknown or wrong, what it is, and what was expected
 */
export function checked<const S extends v.GenericSchema>(schema: S, value: unknown, location: CheckpointLocation, what?: string): v.InferOutput<S> {
  const result = v.safeParse(schema, value, { abortEarly: true });
  if (result.success) return result.output;
  const { path, problem } = describeIssue(schema, result.issues[0]);
  const key = [location.key, path].filter((part) => part !== undefined && part !== '').join('.');
  throw new CheckpointError(`${problem}${what === undefined ? '' : `. This is not ${what}`}`, { ...location, ...(key === '' ? {} : { key }) });
}

/** Where in a value something is wrong, as `ssm_cfg.d_state`, and what. */
export function describeIssue(schema: v.GenericSchema, issue: v.BaseIssue<unknown>): { path: string; problem: string } {
  const path = v.getDotPath(issue) ?? '';
  const last = issue.path?.at(-1);
  if (last?.origin === 'key' && issue.expected === 'never') {
    const known = entriesOf(schemaAt(schema, issue.path?.slice(0, -1) ?? []));
    return { path, problem: `is not a key that is known here${didYouMean(String(last.key), Object.keys(known))}` };
  }
  const expected = describeSchema(schemaAt(schema, issue.path ?? []));
  return { path, problem: `${last?.origin === 'key' ? 'is missing' : `is ${brief(issue.input)}`}; expected ${expected}` };
}

/** What the parts of a schema have that is read here; each kind of schema has some of it. */
interface AnySchema {
  readonly type: string;
  readonly message?: unknown;
  readonly wrapped?: AnySchema;
  readonly entries?: Readonly<Record<string, AnySchema>>;
  readonly item?: AnySchema;
  readonly items?: readonly AnySchema[];
  readonly value?: AnySchema;
  readonly options?: readonly unknown[];
  readonly key?: string;
  readonly literal?: unknown;
  readonly pipe?: readonly { readonly type: string; readonly requirement?: unknown }[];
}

const unwrapped = (schema: AnySchema): AnySchema => (schema.wrapped === undefined ? schema : unwrapped(schema.wrapped));

function entriesOf(schema: AnySchema | undefined): Readonly<Record<string, AnySchema>> {
  return (schema === undefined ? undefined : unwrapped(schema).entries) ?? {};
}

/** The schema of what a path leads to. */
function schemaAt(schema: unknown, path: readonly { readonly key?: unknown; readonly input?: unknown }[]): AnySchema | undefined {
  let at: AnySchema | undefined = schema as AnySchema;
  for (const { key, input } of path) {
    at = unwrapped(at);
    if (at.type === 'variant') at = variantOf(at, key, input);
    at = at?.entries?.[String(key)] ?? at?.item ?? at?.items?.[Number(key)] ?? at?.value;
    if (at === undefined) return undefined;
  }
  return at;
}

/** Of a choice of objects the one that `input` says it is; for the key that says so, all of them. */
function variantOf({ key: discriminator = '', options = [] }: AnySchema, key: unknown, input: unknown): AnySchema | undefined {
  const choices = options as readonly AnySchema[];
  if (key === discriminator) {
    return { type: 'object', entries: { [discriminator]: { type: 'union', options: choices.flatMap(({ entries }) => entries?.[discriminator] ?? []) } } };
  }
  const said = (input as Record<string, unknown>)[discriminator];
  return choices.find(({ entries }) => entries?.[discriminator]?.literal === said);
}

/** What a schema wants, in words: `an integer from 1 to 4096`, `"random" or "constant"`. */
function describeSchema(given: AnySchema | undefined): string {
  const schema = given === undefined ? undefined : unwrapped(given);
  if (typeof schema?.message === 'string') return schema.message;
  switch (schema?.type) {
    case 'number':
      return describeNumber(schema);
    case 'string':
      return 'a text';
    case 'boolean':
      return 'true or false';
    case 'literal':
      return JSON.stringify(schema.literal);
    case 'picklist':
      return joined((schema.options ?? []).map((option) => JSON.stringify(option)));
    case 'union':
      return joined((schema.options ?? []).map((option) => describeSchema(option as AnySchema)));
    case 'array':
      return `a list, each item ${describeSchema(schema.item)}`;
    case 'tuple':
    case 'strict_tuple':
      return `a list of ${String(schema.items?.length)}: ${(schema.items ?? []).map(describeSchema).join(', ')}`;
    case 'object':
    case 'loose_object':
    case 'strict_object':
    case 'record':
    case 'variant':
      return 'an object';
    default:
      return 'another value';
  }
}

function describeNumber({ pipe = [] }: AnySchema): string {
  const bound = (type: string) => pipe.find((action) => action.type === type)?.requirement as number | undefined;
  const [least, above, most] = [bound('min_value'), bound('gt_value'), bound('max_value')];
  const kind = pipe.some(({ type }) => type === 'integer') ? 'an integer' : 'a number';
  if (least !== undefined && most !== undefined) return `${kind} from ${least} to ${most}`;
  if (least !== undefined) return `${kind} of at least ${least}`;
  if (above !== undefined) return `${kind} above ${above}`;
  return most === undefined ? kind : `${kind} of at most ${most}`;
}

const joined = (choices: readonly string[]): string =>
  choices.length < 2 ? (choices[0] ?? 'nothing') : `${choices.slice(0, -1).join(', ')} or ${choices.at(-1) ?? ''}`;

/** A value in a few words, however large it is. */
export function brief(value: unknown): string {
  // JSON has no word for these.
  if (value === undefined || typeof value === 'number') return String(value);
  const text = JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
