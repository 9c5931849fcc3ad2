/** How `block_step` is cut for a GPU, and what it is cut for. */
import type { GpuLaunch } from '../../../tensor/index.js';

/** A launch of `block_step`. */
export type BlockLaunch = GpuLaunch<
  | ('x' | 'residual' | 'normWeight' | 'inProj' | 'convState' | 'convWeight' | 'convBias' | 'xProj' | 'dtProj' | 'dtBias')
  | ('A' | 'D' | 'ssmState' | 'outProj' | 'y' | 'sum'),
  'batch' | 'width' | 'xParts' | 'channels' | 'taps' | 'rank' | 'stateSize' | 'epsilon'
>;

export const threads = 256;
/** Channels of a workgroup of the second dispatch, 4 threads each. */
export const channelsOut = 64;

/** Channels of a workgroup of the first dispatch: the second reads what each of them has for B, C and Δ. */
export const channelsIn = (channels: number): number => (channels <= 2048 ? 16 : 32);

/** Sequences for which there is room between what x_proj gives for two workgroups. */
export const paddedBatch = (batch: number): number => (batch <= 4 ? batch : 16 * Math.ceil(batch / 16));

/** A normed row in 16 KiB of workgroup memory. */
export const mostWidth = 3072;
/** Half the weights of in_proj; in f32 all are 128 MiB, which any device binds. */
const mostWeights = 2 ** 24;

/** Whether there is a kernel for these extents, as nearly all published models have them. */
export const fits = (extents: { width: number; channels: number; taps: number; rank: number; stateSize: number }): boolean => {
  const { width, channels, taps, rank, stateSize } = extents;
  const divisible = width % 8 === 0 && channels % channelsOut === 0;
  const small = width <= mostWidth && width * channels < mostWeights && rank + 2 * stateSize <= threads;
  return divisible && small && width > 0 && channels > 0 && taps > 1 && rank > 0 && stateSize === 16;
};

/**
 * Sequences up to which one launch wins (measured on an H100 with models of 130 million and 1.4 billion parameters): 64 where matrix units
 * can do the products of 16 at a time; otherwise every 4 sequences read the weights anew.
 */
export function mostSequences({ width, channels, halves }: { width: number; channels: number; halves: boolean }): number {
  if (channels > 2048) return 4;
  return halves && width % 128 === 0 ? 64 : 16;
}

/** Numbers of x in all its parts that are worth being added up by each workgroup of the next block (measured on an H100). */
export const mostInParts = 80_000;

/** The parts in which the product of `outProj` comes; 0 where it is better off with a launch of its own. */
export const partsOf = ({ batch, width, channels }: { batch: number; width: number; channels: number }): number =>
  (batch * width * channels) / channelsOut <= mostInParts ? channels / channelsOut : 0;
