/** Launches on the memory they work on. */
import type { BufferView, GpuBinding } from '../../tensor/index.js';
import { BackendError } from '../../util/errors.js';
import { bindRanges, type BoundRange, type Limits } from './binding.js';
import type { GpuBlock } from './buffer-pool.js';
import { uniformWords } from './pipelines.js';
import type { LaunchPlan, PlannedDispatch } from './plan.js';
import type { EncodedCopy, EncodedDispatch } from './stream.js';

/** A dispatch and the ranges it binds. */
export interface BoundDispatch extends Pick<PlannedDispatch, 'pipeline' | 'workgroups'> {
  readonly kernel: string;
  readonly ranges: readonly BoundRange[];
  /** Floats among the parameters may change from launch to launch (`withFloats`). */
  readonly uniforms: Uint32Array;
  readonly before: readonly EncodedCopy[];
  readonly after: readonly EncodedCopy[];
  /** As the stream takes it, from when it first did. */
  encoded: EncodedDispatch | null;
}

/**
 * Binds a plan.
 * @param views the launch's, then those of its scratch
 * @param temporary takes a block of so many bytes, for `before` and `after` to copy to and from
 * @throws BackendError when a view is larger than a binding may be
 */
export function bindLaunch(
  plan: LaunchPlan,
  views: readonly (BufferView | null)[],
  parameters: readonly number[],
  limits: Limits,
  temporary: (sizeBytes: number) => GpuBlock,
): BoundDispatch[] {
  const kernel = plan.kernel.name;
  return plan.dispatches.map(({ pipeline, buffers, workgroups, numbers }): BoundDispatch => {
    const toBind = buffers.map(({ index, shader, part }) => ({ shader, view: partOf(views[index] as BufferView, part) }));
    const { ranges, starts, before, after } = bindRanges(kernel, toBind, limits, temporary);
    const words = [...parameters, ...starts, ...numbers];
    if (words.length > uniformWords) throw new BackendError(`${kernel}: ${words.length} uniforms are too many`);
    return { kernel, pipeline, workgroups, ranges, uniforms: Uint32Array.from(words), before, after, encoded: null };
  });
}

const partOf = ({ buffer, offset, size }: BufferView, part: GpuBinding['part']): BufferView =>
  part === undefined ? { buffer, offset, size } : { buffer, offset: offset + part.first, size: part.size };

/** The uniforms `words` with the parameters at `floats` as they are now. */
export function withFloats(words: Uint32Array, floats: readonly number[], parameters: readonly number[]): Uint32Array {
  const changed = words.slice();
  const values = new Float32Array(changed.buffer);
  for (const i of floats) values[i] = parameters[i] ?? NaN;
  return changed;
}
