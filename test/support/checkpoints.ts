import { expect } from 'vitest';
import { parseSafetensors, safetensorsChunks, type StoredTensor } from '../../src/io/index.js';
import { CheckpointError } from '../../src/util/errors.js';

/** The content of a safetensors file, to be changed. */
export interface EditableContent {
  readonly tensors: Map<string, StoredTensor>;
  readonly metadata: Record<string, string>;
}

/** A safetensors file with other content. */
export function rewriteSafetensors(bytes: Uint8Array, change: (content: EditableContent) => unknown): Uint8Array {
  const { tensors, metadata } = parseSafetensors(bytes);
  const content = { tensors: new Map(tensors), metadata: { ...metadata } };
  change(content);
  return safetensorsFile(content.tensors, content.metadata);
}

/** A safetensors file of these tensors. */
export function safetensorsFile(tensors: ReadonlyMap<string, StoredTensor>, metadata: Record<string, string> = {}): Uint8Array {
  const sources = [...tensors].map(([key, { dtype, shape, bytes }]) => ({ key, dtype, shape, sizeBytes: bytes.length, bytes: () => bytes }));
  return Buffer.concat([...safetensorsChunks(sources, metadata)]);
}

/** The CheckpointError that `action` rejects with; its message must name the file, key and offset that it carries. */
export async function checkpointErrorOf(action: () => Promise<unknown>): Promise<CheckpointError> {
  const error = await action().then(
    () => expect.fail('expected a CheckpointError, but nothing was thrown'),
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof CheckpointError)) throw error;
  expect(error.message).toContain(error.file);
  if (error.key !== undefined) expect(error.message).toContain(`key '${error.key}'`);
  if (error.offset !== undefined) expect(error.message).toContain(`byte ${error.offset}`);
  return error;
}
