/** A head that is stored although config.json says it is the embedding. */
import { toFloat32, type Checkpoint, type CheckpointEntry } from '../io/index.js';
import { formatShape, sameShape } from '../tensor/index.js';
import { CheckpointError } from '../util/errors.js';
import { isFloat, locationOf } from './checkpoint-keys.js';
import type { OnWarning } from './config-keys.js';
import type { BaseConfig, FamilyKeys } from './family.js';

/**
 * What the file says of a tied head. Where it is stored and equal to the embedding, it is left out: `torch.save` stores it so.
 * Where it is not equal, the weights are the truth, as they are for transformers: the head is the stored one, and a warning says so.
 * @param entries by the model's keys; an equal head is taken out
 * @returns the config, with `tiedHead` as the weights have it
 * @throws CheckpointError when it has another shape than the embedding, so that it cannot be either
 */
export async function resolveTiedHead<C extends BaseConfig>(
  checkpoint: Checkpoint,
  config: C,
  entries: Map<string, CheckpointEntry>,
  { trunk, embedding: table, head: name }: FamilyKeys,
  onWarning: OnWarning,
): Promise<C> {
  const [headKey, embeddingKey] = [`${name}.weight`, `${trunk}.${table}.weight`];
  const [head, embedding] = [entries.get(headKey), entries.get(embeddingKey)];
  if (!config.tiedHead || head === undefined || embedding === undefined) return config;
  if (!sameShape(head.shape, embedding.shape)) {
    const problem = `has shape ${formatShape(head.shape)}, and the embedding ${formatShape(embedding.shape)}; expected the same, since config.json ties them`;
    throw new CheckpointError(problem, locationOf(head));
  }
  if (await sameValues(checkpoint, head, embedding)) {
    entries.delete(headKey);
    return config;
  }
  onWarning(`${head.file}, key '${head.key}': is not equal to the embedding, though config.json ties them. The head is this one, untied`);
  return { ...config, tiedHead: false };
}

async function sameValues(checkpoint: Checkpoint, a: CheckpointEntry, b: CheckpointEntry): Promise<boolean> {
  // Views of one tensor.
  if (a.file === b.file && a.offset === b.offset && a.dtype === b.dtype && a.strides?.join() === b.strides?.join()) return true;
  const [x, y] = [await checkpoint.read(a), await checkpoint.read(b)];
  if (a.dtype === b.dtype) return equal(words(x), words(y));
  return isFloat(a) && isFloat(b) && equal(toFloat32(x, a.dtype), toFloat32(y, b.dtype));
}

/** Bytes as words of four where they can be: compared faster. */
function words(bytes: Uint8Array): Uint8Array | Int32Array {
  const whole = bytes.byteOffset % 4 === 0 && bytes.byteLength % 4 === 0;
  return whole ? new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4) : bytes;
}

function equal(a: Uint8Array | Int32Array | Float32Array, b: Uint8Array | Int32Array | Float32Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
