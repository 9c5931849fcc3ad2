/** How a block of Mamba-2 is cut for a GPU, and what it is cut for. */
import type { GpuLaunch } from '../../../tensor/index.js';
import { channelsOut, mostInParts, mostWidth, threads } from './extents.js';

/** A launch of `ssd_block_enter`. */
export type SsdEnterLaunch = GpuLaunch<
  'x' | 'residual' | 'normWeight' | 'inProj' | 'convState' | 'convWeight' | 'convBias' | 'projected' | 'sum',
  'batch' | 'width' | 'xParts' | 'scaled' | 'gates' | 'channels' | 'outputs' | 'taps' | 'epsilon'
>;

/** A launch of `ssd_block_leave`. */
export type SsdLeaveLaunch = GpuLaunch<
  'projected' | 'dtBias' | 'A' | 'D' | 'ssmState' | 'normWeight' | 'outProj' | 'y',
  'batch' | 'width' | 'heads' | 'headSize' | 'groups' | 'stateSize' | 'epsilon' | 'deltaLeast' | 'deltaLargest'
>;

/** Numbers that a row of a part of x has behind it: a share of the mean square, and zeros, so that rows are whole vectors. */
export const behindRow = 4;

/** Outputs of in_proj of a workgroup that takes up to 4 sequences. */
export const outputsOfGroup = 32;

/** Threads that share a channel, each with 4 states. */
export const sharersOf = (stateSize: number): number => stateSize / 4;

/** Whether there is a first kernel for these extents. */
export const entersWith = ({ width, taps }: { width: number; taps: number }): boolean => width > 0 && width % 8 === 0 && width <= mostWidth && taps > 1;

/** Whether there is a second kernel for these extents: heads of 64 channels, or several times as many, and 16, 32, 64, 128 or 256 states. */
export const leavesWith = ({ headSize, stateSize }: { headSize: number; stateSize: number }): boolean =>
  headSize % channelsOut === 0 && [16, 32, 64, 128, 256].includes(stateSize) && threads % sharersOf(stateSize) === 0;

/** Sequences up to which the first kernel wins (on an H200): 32 where matrix units can take 16 at a time; otherwise every 4 sequences read the weights anew. */
export const mostEntering = ({ width, halves }: { width: number; halves: boolean }): number => (halves && width % 128 === 0 ? 32 : 4);

/** Whether the product of `outProj` comes in parts, to be added up by each workgroup of the next block. */
export const leavesInParts = ({ batch, width, channels }: { batch: number; width: number; channels: number }): boolean =>
  (batch * width * channels) / channelsOut <= mostInParts;
