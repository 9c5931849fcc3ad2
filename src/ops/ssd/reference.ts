import { sigmoid, softplus } from '../elementwise/functions.js';
import type { SsdSizes } from './plan.js';

/** The arrays of the operation, float64; null for what was not given. */
interface Operands {
  x: Float64Array;
  delta: Float64Array;
  A: Float64Array;
  B: Float64Array;
  C: Float64Array;
  D: Float64Array | null;
  z: Float64Array | null;
  deltaBias: Float64Array | null;
}

export interface StepParameters extends Omit<SsdSizes, 'length'> {
  xPitch: number;
  deltaPitch: number;
  zPitch: number;
  bPitch: number;
  cPitch: number;
  skipByFeature: boolean;
  softplus: boolean;
  deltaLeast: number;
  deltaLargest: number;
}

interface Parameters extends StepParameters {
  length: number;
  chunk: number;
}

/** What a head reads at one row of [B·L]: step size, its slope by delta, decay, and where its rows of B and C begin. */
function readStep(o: Operands, p: StepParameters, row: number, h: number) {
  const raw = at(o.delta, row * p.deltaPitch + h) + (o.deltaBias ? at(o.deltaBias, h) : 0);
  const free = p.softplus ? softplus(raw) : raw;
  const within = free >= p.deltaLeast && free <= p.deltaLargest;
  const delta = Math.min(Math.max(free, p.deltaLeast), p.deltaLargest);
  const group = Math.floor((h * p.groups) / p.heads) * p.stateSize;
  return {
    delta,
    slope: within ? (p.softplus ? sigmoid(raw) : 1) : 0,
    decay: Math.exp(delta * at(o.A, h)),
    b: row * p.bPitch + group,
    c: row * p.cPitch + group,
    group,
  };
}

/** What one feature of a head reads at one row. */
function readFeature(o: Operands, p: StepParameters, row: number, h: number, i: number) {
  const e = h * p.headSize + i;
  const z = o.z ? at(o.z, row * p.zPitch + e) : null;
  return {
    x: at(o.x, row * p.xPitch + e),
    skip: o.D ? at(o.D, p.skipByFeature ? e : h) : 0,
    gate: z === null ? 1 : z * sigmoid(z),
    gateSlope: z === null ? 0 : sigmoid(z) * (1 + z * (1 - sigmoid(z))),
  };
}

/** Calls `body` for each feature of each head of each sequence. */
function forEachFeature(p: Omit<SsdSizes, 'length'>, body: (batch: number, head: number, feature: number) => void): void {
  for (let b = 0; b < p.batch; b++) for (let h = 0; h < p.heads; h++) for (let i = 0; i < p.headSize; i++) body(b, h, i);
}

/** S ← exp(Δ·A)·S + Δ·x·B; y = (C·S + D·x)·silu(z). */
export function ssdReference(
  o: Operands & {
    initialState: Float64Array | null;
    sequenceStarts: Int32Array | null;
    y: Float64Array;
    finalState: Float64Array;
    states: Float64Array | null;
  },
  p: Parameters,
): void {
  const { length: L, heads: H, headSize: P, stateSize: N } = p;
  const chunks = Math.ceil(L / p.chunk);
  forEachFeature(p, (b, h, i) => {
    const place = ((b * H + h) * P + i) * N;
    const state = Float64Array.from({ length: N }, (_, n) => (o.initialState ? at(o.initialState, place + n) : 0));
    for (let t = 0; t < L; t++) {
      const row = b * L + t;
      const reset = o.sequenceStarts !== null && o.sequenceStarts[row] !== 0;
      const { delta, decay, b: bAt, c } = readStep(o, p, row, h);
      const { x, skip, gate } = readFeature(o, p, row, h, i);
      let y = skip * x;
      for (let n = 0; n < N; n++) {
        if (o.states && t % p.chunk === 0) o.states[(((b * chunks + t / p.chunk) * H + h) * N + n) * P + i] = at(state, n);
        state[n] = (reset ? 0 : decay * at(state, n)) + delta * x * at(o.B, bAt + n);
        y += at(o.C, c + n) * at(state, n);
      }
      o.y[row * H * P + h * P + i] = y * gate;
    }
    o.finalState.set(state, place);
  });
}

type Gradients = Partial<
  Record<'dy' | 'dFinalState' | 'dx' | 'dDelta' | 'dA' | 'dB' | 'dC' | 'dD' | 'dz' | 'dDeltaBias' | 'dInitialState', Float64Array | null>
>;

/** The adjoint of `ssdReference`: R ← C·dy + decay·R from the last position to the first, with every S kept. */
export function ssdBackwardReference(
  o: Operands & { sequenceStarts: Int32Array | null; states: Float64Array } & Gradients,
  p: Parameters & { dyPitch: number },
): void {
  const { length: L, heads: H, headSize: P, stateSize: N, groups: G } = p;
  const chunks = Math.ceil(L / p.chunk);
  for (const sum of [o.dDelta, o.dA, o.dB, o.dC, o.dD, o.dDeltaBias]) sum?.fill(0);
  forEachFeature(p, (b, h, i) => {
    const steps = Array.from({ length: L }, (_, t) => {
      const row = b * L + t;
      const dy = o.dy ? at(o.dy, row * p.dyPitch + h * P + i) : 0;
      const reset = o.sequenceStarts !== null && o.sequenceStarts[row] !== 0;
      return { row, dy, reset, ...readStep(o, p, row, h), ...readFeature(o, p, row, h, i) };
    });
    const y = steps.map(({ skip, x }) => skip * x);
    const dx = steps.map(({ dy, gate, skip }) => dy * gate * skip);
    const dDelta = new Float64Array(L);
    for (let n = 0; n < N; n++) {
      const state = new Float64Array(L + 1);
      state[0] = at(o.states, ((b * chunks * H + h) * N + n) * P + i);
      steps.forEach(({ reset, decay, delta, x, b: bAt, c }, t) => {
        state[t + 1] = (reset ? 0 : decay * at(state, t)) + delta * x * at(o.B, bAt + n);
        add(y, t, at(o.C, c + n) * at(state, t + 1));
      });
      const place = ((b * H + h) * P + i) * N + n;
      let carry = o.dFinalState ? at(o.dFinalState, place) : 0;
      for (let t = L - 1; t >= 0; t--) {
        const { row, dy, reset, decay, delta, x, gate, b: bAt, c, group } = steps[t] ?? fail();
        const weight = row * G * N + group + n;
        const dState = at(o.C, c + n) * dy * gate + carry;
        add(o.dC, weight, dy * gate * at(state, t + 1));
        add(o.dB, weight, dState * delta * x);
        add(dx, t, dState * delta * at(o.B, bAt + n));
        const dExponent = reset ? 0 : dState * at(state, t) * decay;
        add(dDelta, t, dExponent * at(o.A, h) + dState * x * at(o.B, bAt + n));
        add(o.dA, h, dExponent * delta);
        carry = reset ? 0 : decay * dState;
      }
      if (o.dInitialState) o.dInitialState[place] = carry;
    }
    steps.forEach(({ row, dy, slope, x, gate, gateSlope }, t) => {
      const e = row * H * P + h * P + i;
      if (o.dx) o.dx[e] = at(dx, t);
      if (o.dz) o.dz[e] = dy * at(y, t) * gateSlope;
      add(o.dDelta, row * H + h, at(dDelta, t) * slope);
      add(o.dD, p.skipByFeature ? h * P + i : h, dy * gate * x);
      add(o.dDeltaBias, h, at(dDelta, t) * slope);
    });
  });
}

/** One step of `ssdReference`; rows are those of the batch. */
export function ssdStepReference(o: Operands & { state: Float64Array; y: Float64Array }, p: StepParameters): void {
  const { heads: H, headSize: P, stateSize: N } = p;
  forEachFeature(p, (b, h, i) => {
    const { delta, decay, b: bAt, c } = readStep(o, p, b, h);
    const { x, skip, gate } = readFeature(o, p, b, h, i);
    const place = ((b * H + h) * P + i) * N;
    let y = skip * x;
    for (let n = 0; n < N; n++) {
      o.state[place + n] = decay * at(o.state, place + n) + delta * x * at(o.B, bAt + n);
      y += at(o.C, c + n) * at(o.state, place + n);
    }
    o.y[b * H * P + h * P + i] = y * gate;
  });
}

function at(array: ArrayLike<number>, index: number): number {
  return array[index] ?? NaN;
}

function add(array: Float64Array | number[] | null | undefined, index: number, value: number): void {
  if (array) array[index] = at(array, index) + value;
}

function fail(): never {
  throw new RangeError('ssd: no such step');
}
