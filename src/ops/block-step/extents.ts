/** How `block_step` is cut for a GPU, and what it is cut for. */
import type { GpuLaunch } from '../../tensor/index.js';

/** A launch of `block_step`. */
export type BlockLaunch = GpuLaunch<
  | ('x' | 'residual' | 'normWeight' | 'inProj' | 'convState' | 'convWeight' | 'convBias' | 'xProj' | 'dtProj' | 'dtBias')
  | ('A' | 'D' | 'ssmState' | 'outProj' | 'y' | 'sum'),
  'batch' | 'width' | 'parts' | 'channels' | 'taps' | 'rank' | 'stateSize' | 'epsilon'
>;

export const threads = 256;
/** Channels of a workgroup of the second dispatch, 4 threads each. */
export const channelsOut = 64;

/** Channels of a workgroup of the first dispatch: the second reads what each of them has for B, C and Δ. */
export const channelsIn = (channels: number): number => (channels <= 2048 ? 16 : 32);

/** Sequences for which there is room between what x_proj gives for two workgroups. */
export const paddedBatch = (batch: number): number => (batch <= 4 ? batch : 16 * Math.ceil(batch / 16));

/** A normed row in 16 KiB of workgroup memory. */
const mostWidth = 3072;

/** Whether there is a kernel for these extents, as nearly all published models have them. */
export const fits = (extents: { width: number; channels: number; taps: number; rank: number; stateSize: number }): boolean => {
  const { width, channels, taps, rank, stateSize } = extents;
  const divisible = width % 8 === 0 && channels % channelsOut === 0;
  return divisible && width > 0 && width <= mostWidth && channels > 0 && taps > 1 && rank > 0 && rank + 2 * stateSize <= threads && stateSize === 16;
};

/** Numbers of x in all its parts that are worth being added up by each workgroup of the next block (measured on an H100). */
const mostInParts = 80_000;

/** The parts in which the product of `outProj` comes; 0 where it is better off with a launch of its own. */
export const partsOf = ({ batch, width, channels }: { batch: number; width: number; channels: number }): number =>
  (batch * width * channels) / channelsOut <= mostInParts ? channels / channelsOut : 0;
