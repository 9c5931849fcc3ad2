import type { GpuKernel } from '../../tensor/index.js';
import { normBackwardGpu, normGpu } from '../../wgsl/norm.js';

export const rmsNormGpu: GpuKernel<
  'x' | 'residual' | 'weight' | 'y' | 'sum' | 'statistics',
  'rows' | 'columns' | 'xPitch' | 'residualPitch' | 'epsilon'
> = (launch) => normGpu(launch as Parameters<typeof normGpu>[0], false);

export const rmsNormBackwardGpu: GpuKernel<
  'sum' | 'weight' | 'statistics' | 'dy' | 'dresidual' | 'dsum' | 'dx' | 'dweight' | 'partials',
  'rows' | 'columns' | 'sumPitch' | 'dyPitch' | 'dresidualPitch' | 'blocks'
> = (launch) => normBackwardGpu(launch as Parameters<typeof normBackwardGpu>[0], false);
