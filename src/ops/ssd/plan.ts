/** Numbers of a chunk's rows of B at most, and of the states of a task's heads: what fits the kernels' scratch memory. */
const mostChunkNumbers = 32768;
const mostStateNumbers = 65536;
/** Features of a head that a task works on at a time, at most. */
const mostFeatures = 128;

/** Positions of a chunk at most. */
export const longestChunk = 256;
export const largestStateSize = 512;

/** Positions between the states that the forward pass keeps, unless the caller says how many. */
const usualChunk = 64;

/** Tasks of a backward pass that are enough to share out, where there are so many heads. */
const enoughTasks = 8;

export interface SsdSizes {
  readonly batch: number;
  readonly length: number;
  readonly heads: number;
  readonly headSize: number;
  readonly groups: number;
  readonly stateSize: number;
}

/** How the work is cut: by the shape alone, so that neither the machine nor the number of threads moves a buffer's size or a bit. */
export interface SsdPlan {
  readonly chunk: number;
  readonly chunks: number;
  /** Heads that a task takes, and sums dB and dC over: they share their products of B and C. */
  readonly blockHeads: number;
  /** Blocks of heads in a group. */
  readonly blocks: number;
}

/** Positions of a chunk at most, for a state size. */
export const mostChunk = (stateSize: number): number => Math.min(longestChunk, Math.floor(mostChunkNumbers / stateSize));

/** @param half whether x has 16 bits: what has is on a GPU, where longer chunks are faster than their states are to read and write */
export function planSsd({ batch, length, heads, headSize, groups, stateSize }: SsdSizes, wanted: number | undefined, half: boolean): SsdPlan {
  const most = mostChunk(stateSize);
  const chunk = wanted ?? (half && most >= usualChunk ? most - (most % usualChunk) : Math.min(usualChunk, most));
  const perGroup = heads / groups;
  const byWork = Math.ceil(perGroup / Math.ceil(enoughTasks / (batch * groups)));
  const whole = (n: number, of: number) => Math.ceil(n / of) * of;
  const byMemory = Math.floor(mostStateNumbers / (whole(stateSize, 8) * Math.min(whole(headSize, 16), mostFeatures)));
  const blockHeads = Math.max(1, Math.min(byWork, byMemory));
  return { chunk, chunks: Math.ceil(length / chunk), blockHeads, blocks: Math.ceil(perGroup / blockHeads) };
}
