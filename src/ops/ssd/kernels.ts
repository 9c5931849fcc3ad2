import { defineKernel, inout, input, optionalInput, optionalOutput, output } from '../../tensor/index.js';
import { ssdBackwardDivisions, ssdDivisions, ssdStepDivisions } from './divisions.js';
import type { SsdSizes } from './plan.js';
import { ssdBackwardReference, ssdReference, ssdStepReference } from './reference.js';
import { ssdBackwardGpu, ssdGpu, ssdStepGpu } from './webgpu/index.js';

const operands = { x: input.float, delta: input.float, A: input.f32, B: input.float, C: input.float } as const;
const options = { D: optionalInput.f32, z: optionalInput.float, deltaBias: optionalInput.f32 } as const;
const sizes = { heads: 'int', headSize: 'int', groups: 'int', stateSize: 'int' } as const;
const pitches = { xPitch: 'int', deltaPitch: 'int', zPitch: 'int', bPitch: 'int', cPitch: 'int' } as const;
/** skipByFeature: D is [heads·headSize], not [heads]. Δ is held within [deltaLeast, deltaLargest]. */
const how = { skipByFeature: 'flag', softplus: 'flag', deltaLeast: 'float', deltaLargest: 'float' } as const;
/** chunk: positions between kept states. blockHeads: heads of a group that a task takes. */
const cut = { chunk: 'int', blockHeads: 'int' } as const;

/** Multiplications and additions of a head at a position, in chunks: the state in and out, and half a square of the chunk for y. */
const chunked = (p: SsdSizes & { chunk: number }): number => p.batch * p.length * p.heads * p.headSize * (4 * p.stateSize + p.chunk);

/**
 * For every head h of every sequence, with Δ from delta and a state S [headSize, stateSize]:
 *
 *     Sₜ = exp(Δₜ·A)·Sₜ₋₁ + Δₜ·xₜ·Bₜᵀ      yₜ = (Sₜ·Cₜ + D·xₜ)·silu(zₜ)
 *
 * x, z and y [batch, length, heads·headSize], delta [batch, length, heads], B and C [batch, length, groups·stateSize]: head h reads
 * group ⌊h·groups/heads⌋. Initial and final state [batch, heads, headSize, stateSize]. `states`, where the gradient will want
 * it: the state before each chunk, [batch, ⌈length/chunk⌉, heads, stateSize, headSize]. bf16: where a processor has a unit for it, factors of the chunks'
 * products are rounded to bfloat16.
 */
export const ssd = defineKernel('ssd', {
  buffers: {
    ...operands,
    ...options,
    initialState: optionalInput.f32,
    sequenceStarts: optionalInput.i32,
    y: output.float,
    finalState: output.f32,
    states: optionalOutput.f32,
  },
  parameters: { batch: 'int', length: 'int', ...sizes, ...pitches, ...how, ...cut, bf16: 'flag' },
  operations: chunked,
  divisions: ssdDivisions,
  reference: ssdReference,
  webgpu: ssdGpu,
});

/**
 * Gradients; those whose buffer is left out are not written. Room for the kernel to work in: `sequenceParts`
 * [blocks of heads in a group, 2, batch, length, groups·stateSize] (not needed for one block), `headParts`
 * [batch, ⌈length/chunk⌉, heads, headSize + 2].
 */
export const ssdBackward = defineKernel('ssd_backward', {
  buffers: {
    ...operands,
    ...options,
    sequenceStarts: optionalInput.i32,
    states: input.f32,
    dy: optionalInput.float,
    dFinalState: optionalInput.f32,
    dx: optionalOutput.float,
    dDelta: optionalOutput.float,
    dA: optionalOutput.f32,
    dB: optionalOutput.float,
    dC: optionalOutput.float,
    dD: optionalOutput.f32,
    dz: optionalOutput.float,
    dDeltaBias: optionalOutput.f32,
    dInitialState: optionalOutput.f32,
    sequenceParts: optionalOutput.f32,
    headParts: output.f32,
  },
  parameters: { batch: 'int', length: 'int', ...sizes, ...pitches, dyPitch: 'int', ...how, ...cut },
  operations: (p) => 2 * chunked(p),
  divisions: ssdBackwardDivisions,
  reference: ssdBackwardReference,
  webgpu: ssdBackwardGpu,
});

/** One position of every sequence of a batch; the state [batch, heads, headSize, stateSize] moves in place. */
export const ssdStep = defineKernel('ssd_step', {
  buffers: { state: inout.f32, ...operands, ...options, y: output.float },
  parameters: { batch: 'int', ...sizes, ...pitches, ...how },
  operations: (p) => p.batch * p.heads * p.headSize * (5 * p.stateSize + 8),
  divisions: ssdStepDivisions,
  reference: ssdStepReference,
  webgpu: ssdStepGpu,
});
