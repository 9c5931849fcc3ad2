/** Launches that use more of a buffer than a dispatch may are divided. */
import {
  firstHalf,
  itemSize,
  partSize,
  usableBytes,
  type BufferView,
  type Division,
  type GpuBinding,
  type GpuFeatures,
  type GpuWork,
  type Kernel,
} from '../../tensor/index.js';

/** Of a launch, by the name of the buffer. */
type Views = Readonly<Record<string, BufferView | null>>;

/** How a launch is to be divided, or null where all that it uses can be bound, or where it cannot be divided. */
export function divisionFor(
  kernel: Kernel,
  views: Views,
  parameters: Readonly<Record<string, number>>,
  work: GpuWork,
  gpu: GpuFeatures,
): Division | null {
  const large = tooLarge(views, work, usableBytes(gpu));
  if (large === null || kernel.divisions === undefined) return null;
  type SizeOf = (view: BufferView, name: string) => number;
  const bytesOf = (names: readonly string[], sizeOf: SizeOf) =>
    names.reduce((sum, name) => {
      const view = views[name];
      return view ? sum + sizeOf(view, name) * itemSize[view.buffer.dtype] : sum;
    }, 0);
  // Of what is too large, and of everything: there are divisions that only serve to make another one possible.
  const bytesLeft = (sizeOf: SizeOf) => [bytesOf(large, sizeOf), bytesOf(Object.keys(views), sizeOf)] as const;
  let best: Division | null = null;
  let [least, leastOfAll] = bytesLeft(({ size }) => size);
  for (const division of kernel.divisions(parameters)) {
    const count = parameters[division.along] ?? 0;
    const first = firstHalf(count, division);
    if (first === 0) continue;
    const shorter = Math.min(first, count - first);
    const [bytes, bytesOfAll] = bytesLeft(({ size }, name) => partSize(size, name, shorter, division));
    if (bytes < least || (bytes === least && bytesOfAll < leastOfAll)) [best, least, leastOfAll] = [division, bytes, bytesOfAll];
  }
  return best;
}

/** The buffers, scratch included, of which a dispatch uses more than `most` bytes; null where there are none. */
function tooLarge(views: Views, { dispatches, scratch = {} }: GpuWork, most: number): string[] | null {
  const names = new Set<string>();
  for (const { buffers } of dispatches) {
    for (const use of buffers) {
      const { name, part }: GpuBinding = typeof use === 'string' ? { name: use } : use;
      const own = scratch[name];
      const size = part?.size ?? own?.size ?? views[name]?.size ?? 0;
      const dtype = own?.dtype ?? views[name]?.buffer.dtype ?? 'f32';
      if (size * itemSize[dtype] > most) names.add(name);
    }
  }
  return names.size === 0 ? null : [...names];
}
