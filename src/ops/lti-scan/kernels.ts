import { defineKernel, inout, input, optionalInput, optionalOutput, output } from '../../tensor/index.js';
import { added } from '../elementwise/added.js';
import { scanBackwardReference, scanReference, stepReference } from './reference.js';
import { ltiScanBackwardGpu, ltiScanGpu, ltiStepGpu } from './webgpu.js';

const operands = { u: input.f32, change: input.f32, input: input.f32, C: input.f32, D: optionalInput.f32, left: optionalInput.f32, right: optionalInput.f32 } as const;
const sizes = { batch: 'int', length: 'int', features: 'int', states: 'int', channels: 'int', rank: 'int', uPitch: 'int' } as const;
/** rule: a place in `rules`. chunk: positions between kept states. */
const how = { rule: 'int', chunk: 'int' } as const;

interface Extents {
  readonly length: number;
  readonly features: number;
  readonly states: number;
  readonly channels: number;
  readonly uPitch: number;
  readonly chunk: number;
}

const work = (p: { batch: number; length: number; features: number; states: number; channels: number; rank: number }): number =>
  p.batch * p.length * p.features * p.states * (12 + 4 * p.channels + 8 * p.rank);

const sequence = ({ length, features, states, uPitch, chunk }: Extents) => ({
  ...{ u: length * uPitch, steps: length, sequenceStarts: length },
  kept: 2 * Math.ceil(length / chunk) * features * states,
});

/**
 * For every feature h of every sequence, with states s of N complex numbers:
 *
 *     s ← s + change·s + Σ_r left[r]·2·Re(Σ right[r]·s) + input·u      y[c] = 2·Re(Σ C[c]·s) + D[c]·u
 *
 * u [batch, length, features], y [batch, length, channels·features], change and input [features, states], C [channels, features, states],
 * D [channels, features], left and right [rank, features, states], states [batch, features, states] complex. By rules other than 0, change
 * and input are Δ·A and Δ·B, made discrete at every position for a step that is `steps` times as long. `kept`, where the gradient will
 * want it: the state before each chunk, [batch, ⌈length/chunk⌉, features, states].
 */
export const ltiScan = defineKernel('lti_scan', {
  buffers: {
    ...operands,
    steps: optionalInput.f32,
    initialState: optionalInput.f32,
    sequenceStarts: optionalInput.i32,
    y: output.f32,
    finalState: output.f32,
    kept: optionalOutput.f32,
  },
  parameters: { ...sizes, ...how },
  operations: work,
  divisions: (p) => {
    const state = 2 * p.features * p.states;
    return [{ along: 'batch', strides: { ...sequence(p), initialState: state, y: p.length * p.channels * p.features, finalState: state } }];
  },
  reference: scanReference,
  webgpu: ltiScanGpu,
});

/** Gradients; those whose buffer is left out are not written. */
export const ltiScanBackward = defineKernel('lti_scan_backward', {
  buffers: {
    ...operands,
    steps: optionalInput.f32,
    sequenceStarts: optionalInput.i32,
    kept: input.f32,
    dy: optionalInput.f32,
    dFinalState: optionalInput.f32,
    du: optionalOutput.f32,
    dChange: output.f32,
    dInput: output.f32,
    dC: output.f32,
    dD: optionalOutput.f32,
    dLeft: optionalOutput.f32,
    dRight: optionalOutput.f32,
    dInitialState: optionalOutput.f32,
  },
  parameters: { ...sizes, dyPitch: 'int', ...how },
  operations: (p) => 4 * work(p),
  divisions: (p) => {
    const state = 2 * p.features * p.states;
    return [
      {
        along: 'batch',
        strides: { ...sequence(p), dy: p.length * p.dyPitch, dFinalState: state, du: p.length * p.features, dInitialState: state },
        ...added('dChange', 'dInput', 'dC', 'dD', 'dLeft', 'dRight'),
      },
    ];
  },
  reference: scanBackwardReference,
  webgpu: ltiScanBackwardGpu,
});

/** One position of `ltiScan`, by rule 0, for every sequence of a batch; the state moves in place. */
export const ltiStep = defineKernel('lti_step', {
  buffers: { state: inout.f32, ...operands, y: output.f32 },
  parameters: { batch: 'int', features: 'int', states: 'int', channels: 'int', rank: 'int', uPitch: 'int' },
  operations: (p) => work({ ...p, length: 1 }),
  divisions: ({ features, states, channels, uPitch }) => [
    { along: 'batch', strides: { state: 2 * features * states, u: uPitch, y: channels * features } },
  ],
  reference: stepReference,
  webgpu: ltiStepGpu,
});
