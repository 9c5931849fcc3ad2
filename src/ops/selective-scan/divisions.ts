/** Scans are divided between the sequences of a batch. */
import { added } from '../elementwise/added.js';

interface StepExtents {
  readonly channels: number;
  readonly stateSize: number;
  readonly uPitch: number;
  readonly deltaPitch: number;
  readonly zPitch: number;
  readonly bPitch: number;
  readonly cPitch: number;
}

interface ScanExtents extends StepExtents {
  readonly length: number;
  readonly chunk: number;
  readonly segments: number;
}

/** From one sequence's operands to the next, of `length` positions. */
const operands = (p: StepExtents, length: number) => ({
  ...{ u: length * p.uPitch, delta: length * p.deltaPitch, z: length * p.zPitch },
  ...{ B: length * p.bPitch, C: length * p.cPitch },
});

const sequence = (p: ScanExtents) => ({
  ...operands(p, p.length),
  sequenceStarts: p.length,
  states: Math.ceil(p.length / p.chunk) * p.stateSize * p.channels,
  carries: p.segments * (p.stateSize + 1) * p.channels,
});

export const stepDivisions = (p: StepExtents) =>
  [{ along: 'batch', strides: { ...operands(p, 1), state: p.channels * p.stateSize, y: p.channels } }] as const;

export function scanDivisions(p: ScanExtents) {
  const state = p.channels * p.stateSize;
  return [{ along: 'batch', strides: { ...sequence(p), initialState: state, y: p.length * p.channels, finalState: state } }] as const;
}

export function scanBackwardDivisions(p: ScanExtents & { readonly dyPitch: number }) {
  const [state, activation, weights] = [p.channels * p.stateSize, p.length * p.channels, p.length * p.stateSize];
  return [
    {
      along: 'batch',
      strides: {
        ...sequence(p),
        ...{ dy: p.length * p.dyPitch, dFinalState: state, dInitialState: state },
        ...{ du: activation, dDelta: activation, dz: activation, dB: weights, dC: weights },
        channelParts: p.segments * p.channels * (p.stateSize + 2),
      },
      ...added('dA', 'dD', 'dDeltaBias'),
    },
  ] as const;
}
