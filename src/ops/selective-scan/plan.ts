/** Steps between the states that the forward scan keeps for the backward one, and that a kernel takes at a time. */
export const chunkLength = 64;

/** The same on a GPU, which keeps a chunk's states in registers on the way back: twice as many do not fit. */
export const gpuChunkLength = 8;

/** More states than this do not fit the kernels' scratch memory. */
export const largestState = 2048;

/** Threads beyond this find no segment to scan (kMaxThreads in pool.h). */
const mostThreads = 64;
/** Channels a forward task takes at least: the widest vector. A narrower one only needs fewer segments. */
const vectorChannels = 16;

/** How a scan's work is cut, by the kind of backend and its shape alone: neither the machine nor the number of threads moves a buffer's size. */
export interface ScanPlan {
  /** Steps between the states that the forward scan keeps. */
  readonly chunk: number;
  readonly chunks: number;
  /** Segments of whole chunks that may be scanned at the same time, at most. */
  readonly segments: number;
  /** Channels a task of the backward scan sums dB and dC over. */
  readonly groupChannels: number;
  readonly groups: number;
}

/** Wide groups leave fewer parts of dB and dC to add; narrow ones occupy more threads where there are few channels. */
export function planScan(backend: string, batch: number, length: number, channels: number): ScanPlan {
  if (backend === 'webgpu') {
    // Its kernels find their own segments and groups, and take memory for them themselves.
    const chunks = Math.ceil(length / gpuChunkLength);
    return { chunk: gpuChunkLength, chunks, segments: 1, groupChannels: channels, groups: 1 };
  }
  const groupChannels = channels >= 1024 ? 64 : channels >= 512 ? 32 : 16;
  const chunks = Math.ceil(length / chunkLength);
  const tasks = batch * Math.ceil(channels / vectorChannels);
  const segments = Math.max(1, Math.min(chunks, Math.floor(mostThreads / tasks)));
  return { chunk: chunkLength, chunks, segments, groupChannels, groups: Math.ceil(channels / groupChannels) };
}
