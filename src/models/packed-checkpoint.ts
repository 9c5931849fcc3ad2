/**
 * Packed weights in a checkpoint: safetensors whose packed tensors are their bytes, U8 [bytes], as they lie in device memory.
 * What they stand for is in the file's metadata, under `elapid.packed`: the version of the layout, and dtype and shape of each.
 */
import * as v from 'valibot';
import type { Checkpoint, CheckpointEntry } from '../io/index.js';
import type { Parameter } from '../nn/index.js';
import { formatShape, isPacked, packedSizeBytes, sameShape, type PackedDType, type Shape } from '../tensor/index.js';
import { CheckpointError } from '../util/errors.js';
import { checked } from '../util/schema.js';

const metadataKey = 'elapid.packed';

/** Goes up when the layout changes: other bytes would be read as weights. */
const layoutVersion = 1;

const extent = v.pipe(v.number(), v.integer(), v.minValue(1));
const schema = v.strictObject({
  version: v.literal(layoutVersion),
  tensors: v.record(v.string(), v.strictObject({ dtype: v.picklist(['bf16', 'int8', 'int4']), shape: v.tuple([extent, extent]) })),
});

/** Dtype and shape of packed tensors by key. */
export type PackedTensors = Readonly<Record<string, { readonly dtype: PackedDType; readonly shape: Shape }>>;

/** The metadata of a checkpoint of these parameters: nothing where none is packed. */
export function packedMetadata(parameters: readonly Parameter[]): Record<string, string> {
  const packed = parameters.filter(({ tensor }) => isPacked(tensor.dtype));
  if (packed.length === 0) return {};
  const tensors = Object.fromEntries(packed.map(({ key, tensor: { dtype, shape } }) => [key, { dtype, shape }]));
  return { [metadataKey]: JSON.stringify({ version: layoutVersion, tensors }) };
}

/**
 * Which tensors of a checkpoint are packed.
 * @throws CheckpointError when the metadata is not what `packedMetadata` writes, or names a tensor that is not there
 */
export function readPackedMetadata(checkpoint: Checkpoint): PackedTensors {
  const text = checkpoint.metadata[metadataKey];
  if (text === undefined) return {};
  const location = { file: checkpoint.name, key: `__metadata__.${metadataKey}` };
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new CheckpointError('is not JSON', location, { cause });
  }
  const { tensors } = checked(schema, json, location);
  for (const key of Object.keys(tensors)) {
    if (!checkpoint.entries.has(key)) throw new CheckpointError(`names '${key}', which the checkpoint does not hold`, location);
  }
  return tensors;
}

/**
 * Throws unless an entry holds the bytes of a packed weight of this shape.
 * @throws CheckpointError
 */
export function checkPackedEntry(entry: CheckpointEntry, packed: { dtype: PackedDType; shape: Shape }, shape: Shape): void {
  const { file, key, offset } = entry;
  if (!sameShape(packed.shape, shape)) {
    throw new CheckpointError(`has shape ${formatShape(packed.shape)}; expected ${formatShape(shape)} from config.json`, { file, key, offset });
  }
  const [rows = 0, columns = 0] = shape;
  const bytes = packedSizeBytes(packed.dtype, rows, columns);
  if (entry.dtype === 'U8' && sameShape(entry.shape, [bytes])) return;
  throw new CheckpointError(
    `is ${entry.dtype} ${formatShape(entry.shape)}; expected U8 [${bytes}], the bytes of ${packed.dtype} ${formatShape(shape)}`,
    { file, key, offset },
  );
}
