/** What the tensors of a checkpoint are called, and what the model calls them. */
import type { Checkpoint, CheckpointEntry } from '../io/index.js';
import { CheckpointError } from '../util/errors.js';
import type { FamilyKeys } from './family.js';
import { didYouMean } from '../util/nearest.js';

/** What wrappers put before every key: DistributedDataParallel, torch.compile, FSDP, and training programs that hold the model. */
const wrappers = /^(?:(?:module|model|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.)*/;

/** A part of the model that was wrapped. */
const wrapped = /\b(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\./g;

/** Keys that only other models have, and what those are called. */
const otherModels: readonly (readonly [RegExp, string])[] = [
  [/\.mixer\.norm\.weight$/, 'Mamba-2'],
  [/\.(dt|b|c|B|C)_(layer)?norm\.weight$/, 'a Mamba with norms of Δ, B and C, as FalconMamba and Jamba are'],
  [/\.(self_attn|attention|attn|Wqkv)\./, 'a model with attention layers'],
];

/** An entry and what stands before the model's own name for it. */
interface Prefixed {
  readonly prefix: string;
  readonly entry: CheckpointEntry;
}

/**
 * The tensors of a checkpoint by the model's own keys: without the prefix that all of them have in common (`module.`, `_orig_mod.`,
 * `model.`), with the trunk's name that all of them may lack, and with the names of other dialects replaced.
 * @throws CheckpointError where some have a prefix and others do not, or two are the same parameter
 */
export function entriesByKey(checkpoint: Checkpoint, { trunk, embedding, layers, finalNorm, head, renamed = [], ignored }: FamilyKeys): Map<string, CheckpointEntry> {
  const found = new Map<string, CheckpointEntry>();
  const [inTrunk, headKey] = [`${trunk}.`, `${head}.weight`];
  const parts = [embedding, layers, finalNorm];
  let first: Prefixed | undefined;
  for (const entry of checkpoint.entries.values()) {
    if (ignored?.test(entry.key) === true) continue;
    const [wrapper = ''] = wrappers.exec(entry.key) ?? [];
    const core = entry.key.slice(wrapper.length).replace(wrapped, '');
    const short = renamed.reduce((name, [pattern, replacement]) => name.replace(pattern, replacement), core);
    const ours = short.startsWith(inTrunk) || !parts.includes(short.split('.', 1)[0] ?? '');
    const key = ours ? short : `${inTrunk}${short}`;
    if (key !== headKey) {
      const prefix = key.startsWith(inTrunk) && ours ? `${wrapper}${inTrunk}` : wrapper;
      first ??= { prefix, entry };
      if (prefix !== first.prefix) throw mixedPrefixes({ prefix, entry }, first);
    }
    const twin = found.get(key);
    if (twin !== undefined) {
      throw new CheckpointError(`is the same parameter as '${twin.key}'; expected it once`, locationOf(entry));
    }
    found.set(key, entry);
  }
  const entry = found.get(headKey);
  if (entry !== undefined && first !== undefined) {
    // The head stands beside the trunk, which may be called `model`.
    const prefix = entry.key.slice(0, -headKey.length);
    if (!['', inTrunk, 'model.'].includes(first.prefix.slice(prefix.length)) || !first.prefix.startsWith(prefix)) {
      throw mixedPrefixes({ prefix, entry }, first);
    }
  }
  return found;
}

function mixedPrefixes(one: Prefixed, other: Prefixed): CheckpointError {
  const described = (prefix: string) => (prefix === '' ? 'no prefix' : `the prefix '${prefix}'`);
  const problem = `has ${described(one.prefix)}, and '${other.entry.key}' has ${described(other.prefix)}; expected one for all keys`;
  return new CheckpointError(problem, locationOf(one.entry));
}

/** An error about a tensor that the model does not have: what it may be instead. */
export function strangeKey(key: string, entry: CheckpointEntry, expected: Iterable<string>): CheckpointError {
  const kind = otherModels.find(([pattern]) => pattern.test(key))?.[1];
  const hint = kind === undefined ? didYouMean(key, expected) : `. Hint: such a key is that of ${kind}`;
  return new CheckpointError(`is no parameter of the model that config.json describes${hint}`, locationOf(entry));
}

/** Whether an entry holds fractions, which weights are. */
export const isFloat = ({ dtype }: CheckpointEntry): boolean => ['F32', 'F16', 'BF16', 'F64'].includes(dtype);

/** Where an entry is, for messages. */
export const locationOf = ({ file, key, offset }: CheckpointEntry) => ({ file, key, offset });

/** How many layers the keys speak of: one more than the largest number. */
export function countLayers(keys: Iterable<string>, { trunk, layers }: FamilyKeys): number {
  const start = `${trunk}.${layers}.`;
  let count = 0;
  for (const key of keys) if (key.startsWith(start)) count = Math.max(count, 1 + Number(/^\d+/.exec(key.slice(start.length))?.[0] ?? -1));
  return count;
}
