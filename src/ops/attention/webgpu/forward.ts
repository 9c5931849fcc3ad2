import type { GpuKernel } from '../../../tensor/index.js';
import { areFew, fewQueries } from './few-queries.js';
import { canUseMatrices, forwardByMatrices } from './forward-matrices.js';
import { forwardByRows } from './forward-rows.js';
import type { Places, Sizes } from './places.js';

export type ForwardBuffers = Places | 'q' | 'k' | 'v' | 'y' | 'logSums';
export type ForwardParameters = Sizes | 'qPitch' | 'kPitch' | 'vPitch';

export const attentionGpu: GpuKernel<ForwardBuffers, ForwardParameters> = (launch) =>
  areFew(launch) ? fewQueries(launch) : canUseMatrices(launch) ? forwardByMatrices(launch) : forwardByRows(launch);
