import type { GpuKernel } from '../../../tensor/index.js';
import { channelsIn, paddedBatch, type BlockLaunch } from './extents.js';
import { enter } from './enter.js';
import { enterMatrices, takesMatrices } from './enter-matrices.js';
import { leave } from './leave.js';

/**
 * Two dispatches. In the first, a workgroup norms its rows anew and makes x and z of some channels, so that it has all that their
 * convolution needs, and their part of x_proj. The second adds these parts up in every workgroup, steps the scan of some channels, and has
 * all that their part of out_proj needs; what adds those parts up is the next block.
 */
export const blockStepGpu: GpuKernel<Parameters<BlockLaunch['has']>[0], keyof BlockLaunch['parameters']> = (launch) => {
  const { batch, channels, rank, stateSize } = launch.parameters;
  const selected = rank + 2 * stateSize;
  return {
    // u and z [batch, 2·channels], then what each workgroup has of x_proj: [workgroups, padded batch, selected].
    scratch: { inner: { dtype: 'f32', size: batch * 2 * channels + (channels / channelsIn(channels)) * paddedBatch(batch) * selected } },
    dispatches: [takesMatrices(launch) ? enterMatrices(launch) : enter(launch), leave(launch)],
  };
};
