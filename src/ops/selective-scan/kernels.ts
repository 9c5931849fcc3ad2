import { defineKernel, inout, input, optionalInput, optionalOutput, output } from '../../tensor/index.js';
import { scanBackwardDivisions, scanDivisions, stepDivisions } from './divisions.js';
import { selectiveScanBackwardGpu, selectiveScanGpu, selectiveScanStepGpu } from './webgpu/index.js';
import { scanBackwardReference, scanReference, stepReference } from './reference.js';

const strides = { uPitch: 'int', deltaPitch: 'int', zPitch: 'int', bPitch: 'int', cPitch: 'int' } as const;
const extents = { batch: 'int', length: 'int', channels: 'int', stateSize: 'int' } as const;
/** hold: the exact zero-order hold. chunk: steps between kept states. segments: the most that `carries` has room for. */
const how = { softplus: 'flag', reverse: 'flag', hold: 'flag', chunk: 'int', segments: 'int' } as const;
const operands = { u: input.float, delta: input.float, A: input.f32, B: input.float, C: input.float } as const;

/**
 * y and the final state. `states`, where the gradient will want it: the state before each chunk, [B, ⌈L/chunk⌉, N, E].
 * `carries` is room for the kernel to work in: [B, segments, N + 1, E].
 */
export const selectiveScan = defineKernel('selective_scan', {
  buffers: {
    ...operands,
    D: optionalInput.f32,
    z: optionalInput.float,
    deltaBias: optionalInput.f32,
    initialState: optionalInput.f32,
    sequenceStarts: optionalInput.i32,
    y: output.float,
    finalState: output.f32,
    states: optionalOutput.f32,
    carries: optionalOutput.f32,
  },
  parameters: { ...extents, ...strides, ...how },
  operations: (p) => p.batch * p.length * p.channels * (7 * p.stateSize + 8),
  divisions: scanDivisions,
  webgpu: selectiveScanGpu,
  reference: scanReference,
});

/**
 * Gradients; those whose buffer is left out are not written. Room for the kernel to work in: `sequenceParts`
 * [⌈E/groupChannels⌉, 2, B, L, N] (not needed for one group), `channelParts` [B·segments, E·(N + 2)], `carries` as above.
 */
export const selectiveScanBackward = defineKernel('selective_scan_backward', {
  buffers: {
    ...operands,
    D: optionalInput.f32,
    z: optionalInput.float,
    deltaBias: optionalInput.f32,
    sequenceStarts: optionalInput.i32,
    states: input.f32,
    dy: optionalInput.float,
    dFinalState: optionalInput.f32,
    du: optionalOutput.float,
    dDelta: optionalOutput.float,
    dA: optionalOutput.f32,
    dB: optionalOutput.float,
    dC: optionalOutput.float,
    dD: optionalOutput.f32,
    dz: optionalOutput.float,
    dDeltaBias: optionalOutput.f32,
    dInitialState: optionalOutput.f32,
    sequenceParts: optionalOutput.f32,
    channelParts: output.f32,
    carries: optionalOutput.f32,
  },
  parameters: { ...extents, ...strides, dyPitch: 'int', ...how, groupChannels: 'int' },
  operations: (p) => p.batch * p.length * p.channels * (20 * p.stateSize + 30),
  divisions: scanBackwardDivisions,
  webgpu: selectiveScanBackwardGpu,
  reference: scanBackwardReference,
});

/** One step of every sequence of a batch; the state [B, E, N] moves in place. */
export const selectiveScanStep = defineKernel('selective_scan_step', {
  buffers: {
    state: inout.f32,
    ...operands,
    D: optionalInput.f32,
    z: optionalInput.float,
    deltaBias: optionalInput.f32,
    y: output.float,
  },
  parameters: { batch: 'int', channels: 'int', stateSize: 'int', ...strides, softplus: 'flag', hold: 'flag' },
  operations: (p) => p.batch * p.channels * (7 * p.stateSize + 8),
  divisions: stepDivisions,
  webgpu: selectiveScanStepGpu,
  reference: stepReference,
});
