/** Sequences are divided between the rows of a batch. */
import { added } from '../elementwise/added.js';
import type { StepParameters } from './reference.js';

interface Extents extends StepParameters {
  readonly length: number;
  readonly chunk: number;
}

const operands = (p: StepParameters, length: number) => ({
  ...{ x: length * p.xPitch, delta: length * p.deltaPitch, z: length * p.zPitch },
  ...{ B: length * p.bPitch, C: length * p.cPitch },
});

const stateNumbers = (p: StepParameters): number => p.heads * p.headSize * p.stateSize;

const sequence = (p: Extents) => ({
  ...operands(p, p.length),
  sequenceStarts: p.length,
  states: Math.ceil(p.length / p.chunk) * stateNumbers(p),
});

export const ssdStepDivisions = (p: StepParameters) =>
  [{ along: 'batch', strides: { ...operands(p, 1), state: stateNumbers(p), y: p.heads * p.headSize } }] as const;

export function ssdDivisions(p: Extents) {
  const state = stateNumbers(p);
  return [{ along: 'batch', strides: { ...sequence(p), initialState: state, y: p.length * p.heads * p.headSize, finalState: state } }] as const;
}

export function ssdBackwardDivisions(p: Extents & { readonly dyPitch: number }) {
  const [state, features, weights] = [stateNumbers(p), p.length * p.heads * p.headSize, p.length * p.groups * p.stateSize];
  return [
    {
      along: 'batch',
      strides: {
        ...sequence(p),
        ...{ dy: p.length * p.dyPitch, dFinalState: state, dInitialState: state },
        ...{ dx: features, dDelta: p.length * p.heads, dz: features, dB: weights, dC: weights },
        headParts: Math.ceil(p.length / p.chunk) * p.heads * (p.headSize + 2),
      },
      ...added('dA', 'dD', 'dDeltaBias'),
    },
  ] as const;
}
