/** Which ranges of which buffers a dispatch binds. */
import { itemSize, type BufferView, type DeviceBuffer } from '../../tensor/index.js';
import { BackendError } from '../../util/errors.js';
import type { GpuBlock } from './buffer-pool.js';
import type { ShaderBuffer } from './shader.js';
import type { EncodedCopy } from './stream.js';

/** A part of a block, as bound. */
export interface BoundRange {
  readonly block: GpuBlock;
  readonly offset: number;
  readonly sizeBytes: number;
  readonly access: 'read' | 'read_write';
}

/** A buffer to be bound; its view's buffer has the block. */
export interface ToBind {
  readonly shader: ShaderBuffer;
  readonly view: BufferView;
}

/** What a device allows. */
export interface Limits {
  readonly minStorageBufferOffsetAlignment: number;
  readonly bindingBytes: number;
  readonly maxBufferSize: number;
}

/**
 * Ranges begin at a multiple of the device's alignment; `starts` are the elements between that and the view's first. Where a
 * range that is written overlaps another, which WebGPU forbids, a copy is bound instead, made `before` the dispatch and
 * written back `after` it.
 * @throws BackendError when a view is larger than a binding may be
 */
export function bindRanges(
  kernel: string,
  buffers: readonly ToBind[],
  limits: Limits,
  temporary: (sizeBytes: number) => GpuBlock,
): { ranges: BoundRange[]; starts: number[]; before: EncodedCopy[]; after: EncodedCopy[] } {
  const ranges: BoundRange[] = [];
  const starts: number[] = [];
  const before: EncodedCopy[] = [];
  const after: EncodedCopy[] = [];
  for (const { shader, view } of buffers) {
    const { name, access, elementBytes } = shader;
    const { block } = view.buffer as { block: GpuBlock } & DeviceBuffer;
    const itemBytes = itemSize[view.buffer.dtype];
    const firstByte = view.offset * itemBytes;
    const alignment = limits.minStorageBufferOffsetAlignment;
    const offset = Math.floor(firstByte / alignment) * alignment;
    const lastByte = firstByte + Math.max(1, view.size) * itemBytes;
    // Whole elements of the widest type: blocks are multiples of 256 bytes.
    const sizeBytes = Math.ceil((lastByte - offset) / 16) * 16;
    if (sizeBytes > limits.bindingBytes) {
      throw new BackendError(
        `${kernel}: ${name} has ${sizeBytes} bytes, in a launch that cannot be divided further; at most ` +
          `${limits.bindingBytes} can be bound here. Hint: a smaller batch, shorter sequences or smaller chunks`,
      );
    }
    if ((firstByte - offset) % elementBytes !== 0) {
      throw new BackendError(`${kernel}: ${name} starts at byte ${firstByte}, not at a multiple of ${elementBytes}`);
    }
    starts.push((firstByte - offset) / elementBytes);
    const range: BoundRange = { block, offset, sizeBytes, access };
    if (ranges.some((other) => conflicts(range, other))) {
      const copy = temporary(sizeBytes);
      ranges.push({ ...range, block: copy, offset: 0 });
      before.push({ from: block.buffer, fromOffset: offset, to: copy.buffer, toOffset: 0, sizeBytes });
      if (access === 'read_write') {
        // Only the view itself: what lies around it may be another output's. Whole words, as copies must be.
        const [start, end] = [firstByte - (firstByte % 4), Math.ceil(lastByte / 4) * 4];
        after.push({ from: copy.buffer, fromOffset: start - offset, to: block.buffer, toOffset: start, sizeBytes: end - start });
      }
    } else {
      ranges.push(range);
    }
  }
  return { ranges, starts, before, after };
}

const conflicts = (a: BoundRange, b: BoundRange): boolean =>
  a.block === b.block &&
  (a.access === 'read_write' || b.access === 'read_write') &&
  a.offset < b.offset + b.sizeBytes &&
  b.offset < a.offset + a.sizeBytes;
