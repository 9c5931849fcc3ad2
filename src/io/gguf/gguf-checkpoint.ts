/** A GGUF file as a checkpoint: its metadata as a config.json, its tensors under a checkpoint's keys. */
import type { RandomAccessFile } from '../../platform/platform.js';
import { CheckpointError } from '../../util/errors.js';
import type { CheckpointEntry } from '../checkpoint-entry.js';
import { architectures, Hyperparameters, type TensorRule } from './architectures.js';
import { readGgufHeader, type GgufHeader, type GgufTensor } from './gguf-file.js';

/**
 * @throws CheckpointError when the file is damaged, its architecture is not known, a key or tensor is missing, or a tensor has another
 *   shape than the metadata say, or a name that the architecture does not have
 */
export async function readGgufCheckpoint(file: RandomAccessFile): Promise<{ config: unknown; entries: Map<string, CheckpointEntry> }> {
  const header = await readGgufHeader(file);
  const { metadata, tensors } = header;
  const name = metadata.get('general.architecture');
  const architecture = typeof name === 'string' ? architectures.get(name) : undefined;
  if (typeof name !== 'string' || architecture === undefined) {
    const problem = name === undefined ? 'is missing' : `is ${JSON.stringify(name)}`;
    throw new CheckpointError(`${problem}; expected one of ${[...architectures.keys()].join(', ')}`, { file: file.name, key: 'general.architecture' });
  }
  if (Number(metadata.get('split.count') ?? 1) > 1) {
    throw new CheckpointError('the file is one of several; expected the whole model in one. Hint: join them with llama-gguf-split --merge', { file: file.name, key: 'split.count' });
  }
  const embedding = tensors.get('token_embd.weight');
  if (embedding === undefined) throw missing(file.name, 'token_embd.weight');
  const sizes = new Hyperparameters(file.name, name, metadata, embedding.shape.at(-2) ?? 1, (tensor) => tensors.has(tensor));
  const config = { ...architecture.config(sizes), ...endOfText(header) };
  const rules = architecture.tensors(sizes);
  const entries = new Map<string, CheckpointEntry>();
  for (const rule of rules) {
    const tensor = tensors.get(rule.name);
    if (tensor !== undefined) entries.set(rule.key, entryOf(rule, tensor, file.name));
    else if (rule.optional !== true) throw missing(file.name, rule.name);
  }
  const known = new Set(rules.map((rule) => rule.name));
  const stranger = [...tensors.values()].find((tensor) => !known.has(tensor.name));
  if (stranger !== undefined) {
    throw new CheckpointError(`is no tensor of the architecture ${name}, or its layer is none of the ${sizes.layers} that the metadata say`, { file: file.name, key: stranger.name, offset: stranger.offset });
  }
  return { config, entries };
}

const missing = (file: string, key: string): CheckpointError => new CheckpointError('the tensor is missing; expected it by the architecture and sizes in the metadata', { file, key });

/** The ids that end a text or a turn. */
function endOfText({ metadata }: GgufHeader): Record<string, unknown> {
  const ids = ['eos', 'eot', 'eom'].map((name) => metadata.get(`tokenizer.ggml.${name}_token_id`)).filter((id) => id !== undefined);
  return ids.length === 0 ? {} : { eos_token_id: [...new Set(ids)] };
}

const withoutOnes = (shape: readonly number[]): string => shape.filter((extent) => extent !== 1).join();

function entryOf({ key, shape, modelShape = shape, rows, negativeExponential = false }: TensorRule, tensor: GgufTensor, file: string): CheckpointEntry {
  const { name, type, offset } = tensor;
  if (withoutOnes(tensor.shape) !== withoutOnes(shape)) {
    throw new CheckpointError(`has shape [${tensor.shape.join(', ')}]; expected [${shape.join(', ')}] from the metadata`, { file, key: name, offset });
  }
  const own = { key, shape: modelShape, file, offset };
  if (rows === undefined && !negativeExponential && type.values === 1) {
    return { ...own, dtype: type.name.toUpperCase() as 'F32' | 'F16' | 'BF16', sizeBytes: tensor.sizeBytes };
  }
  const decode = (bytes: Uint8Array): Uint8Array => {
    let values = type.decode(bytes);
    if (negativeExponential) {
      const wrong = values.find((a) => !(a < 0));
      if (wrong !== undefined) throw new CheckpointError(`holds ${wrong}; expected numbers below 0, the decays A`, { file, key: name, offset });
      values = values.map((a) => Math.log(-a));
    }
    if (rows !== undefined) values = inOrder(values, rows(), 'of the model');
    return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  };
  return { ...own, dtype: 'F32', sizeBytes: 4 * shape.reduce((a, b) => a * b), stored: { sizeBytes: tensor.sizeBytes, decode } };
}

/**
 * Rows in the order of the model, or of the file.
 * @param rows the model's row for each row of the file
 */
export function inOrder(values: Float32Array, rows: readonly number[], order: 'of the model' | 'of the file'): Float32Array {
  const width = values.length / rows.length;
  const result = new Float32Array(values.length);
  rows.forEach((model, inFile) => {
    const [from, to] = order === 'of the model' ? [inFile, model] : [model, inFile];
    result.set(values.subarray(from * width, (from + 1) * width), to * width);
  });
  return result;
}
