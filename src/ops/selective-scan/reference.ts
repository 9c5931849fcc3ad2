import { sigmoid, softplus } from '../elementwise/functions.js';

/** The arrays of a scan, float64; null for what was not given. */
interface Operands {
  u: Float64Array;
  delta: Float64Array;
  A: Float64Array;
  B: Float64Array;
  C: Float64Array;
  D: Float64Array | null;
  z: Float64Array | null;
  deltaBias: Float64Array | null;
}

interface Strides {
  uPitch: number;
  deltaPitch: number;
  zPitch: number;
  bPitch: number;
  cPitch: number;
}

interface Extents extends Strides {
  batch: number;
  length: number;
  channels: number;
  stateSize: number;
  softplus: boolean;
  reverse: boolean;
  hold: boolean;
  chunk: number;
}

/** What a channel's scan reads at one row of [B·L] rows. */
function readStep(o: Operands, p: Strides & { softplus: boolean }, row: number, e: number) {
  const raw = at(o.delta, row * p.deltaPitch + e) + (o.deltaBias ? at(o.deltaBias, e) : 0);
  const z = o.z ? at(o.z, row * p.zPitch + e) : null;
  return {
    u: at(o.u, row * p.uPitch + e),
    delta: p.softplus ? softplus(raw) : raw,
    slope: p.softplus ? sigmoid(raw) : 1,
    skip: o.D ? at(o.D, e) : 0,
    gate: z === null ? 1 : z * sigmoid(z),
    gateSlope: z === null ? 0 : sigmoid(z) * (1 + z * (1 - sigmoid(z))),
  };
}

/** Ā and B̄ / B of one state, and their derivatives by Δ and A. */
function discretize(delta: number, a: number, hold: boolean) {
  const x = delta * a;
  const decay = Math.exp(x);
  if (!hold) return { decay, gain: delta, gainByDelta: 1, gainByA: 0 };
  const small = Math.abs(x) < 1e-4;
  const gain = small ? delta * (1 + x / 2 + (x * x) / 6 + (x * x * x) / 24) : Math.expm1(x) / a;
  const gainByA = small ? delta * delta * (1 / 2 + x / 3 + (x * x) / 8) : (delta * decay - gain) / a;
  return { decay, gain, gainByDelta: decay, gainByA };
}

/** Calls `body` for every sequence and channel with the rows in scan order, and whether the state is dropped before each. */
function forEachChannel(
  p: Extents,
  sequenceStarts: Int32Array | null,
  body: (batch: number, channel: number, rows: readonly { row: number; reset: boolean }[]) => void,
): void {
  const starts = (row: number) => sequenceStarts !== null && sequenceStarts[row] !== 0;
  for (let b = 0; b < p.batch; b++) {
    const rows = Array.from({ length: p.length }, (_, i) => {
      const row = b * p.length + (p.reverse ? p.length - 1 - i : i);
      return { row, reset: p.reverse ? i > 0 && starts(row + 1) : starts(row) };
    });
    for (let e = 0; e < p.channels; e++) body(b, e, rows);
  }
}

/** h ← Ā·h + B̄·u; y = (C·h + D·u)·silu(z). */
export function scanReference(
  o: Operands & {
    initialState: Float64Array | null;
    sequenceStarts: Int32Array | null;
    y: Float64Array;
    finalState: Float64Array;
    states: Float64Array | null;
  },
  p: Extents,
): void {
  const { channels: E, stateSize: N } = p;
  const chunks = Math.ceil(p.length / p.chunk);
  forEachChannel(p, o.sequenceStarts, (b, e, rows) => {
    const h = Float64Array.from({ length: N }, (_, n) => (o.initialState ? at(o.initialState, (b * E + e) * N + n) : 0));
    rows.forEach(({ row, reset }, i) => {
      const { u, delta, skip, gate } = readStep(o, p, row, e);
      let y = skip * u;
      for (let n = 0; n < N; n++) {
        if (o.states && i % p.chunk === 0) o.states[((b * chunks + i / p.chunk) * N + n) * E + e] = at(h, n);
        const { decay, gain } = discretize(delta, at(o.A, e * N + n), p.hold);
        h[n] = (reset ? 0 : decay * at(h, n)) + gain * at(o.B, row * p.bPitch + n) * u;
        y += at(o.C, row * p.cPitch + n) * at(h, n);
      }
      o.y[row * E + e] = y * gate;
    });
    o.finalState.set(h, (b * E + e) * N);
  });
}

/** The adjoint of `scanReference`: λ ← C·dy + Ā·λ from the last step to the first, with every h kept. */
export function scanBackwardReference(
  o: Operands & { sequenceStarts: Int32Array | null; states: Float64Array } & Partial<
      Record<'dy' | 'dFinalState' | 'du' | 'dDelta' | 'dA' | 'dB' | 'dC' | 'dD' | 'dz' | 'dDeltaBias' | 'dInitialState', Float64Array | null>
    >,
  p: Extents & { dyPitch: number },
): void {
  const { channels: E, stateSize: N, length: L } = p;
  const chunks = Math.ceil(L / p.chunk);
  for (const sum of [o.dA, o.dB, o.dC, o.dD, o.dDeltaBias]) sum?.fill(0);
  forEachChannel(p, o.sequenceStarts, (b, e, rows) => {
    const steps = rows.map(({ row, reset }) => ({ row, reset, dy: o.dy ? at(o.dy, row * p.dyPitch + e) : 0, ...readStep(o, p, row, e) }));
    const y = steps.map(({ skip, u }) => skip * u);
    const du = steps.map(({ dy, gate, skip }) => dy * gate * skip);
    const dDelta = new Float64Array(L);
    for (let n = 0; n < N; n++) {
      const a = at(o.A, e * N + n);
      const h = new Float64Array(L + 1);
      h[0] = at(o.states, (b * chunks * N + n) * E + e);
      steps.forEach(({ row, reset, u, delta }, i) => {
        const { decay, gain } = discretize(delta, a, p.hold);
        h[i + 1] = (reset ? 0 : decay * at(h, i)) + gain * at(o.B, row * p.bPitch + n) * u;
        add(y, i, at(o.C, row * p.cPitch + n) * at(h, i + 1));
      });
      let carry = o.dFinalState ? at(o.dFinalState, (b * E + e) * N + n) : 0;
      for (let i = L - 1; i >= 0; i--) {
        const { row, reset, u, delta, dy, gate } = steps[i] ?? fail();
        const { decay, gain, gainByDelta, gainByA } = discretize(delta, a, p.hold);
        const input = at(o.B, row * p.bPitch + n) * u;
        const dh = at(o.C, row * p.cPitch + n) * dy * gate + carry;
        add(o.dC, row * N + n, dy * gate * at(h, i + 1));
        add(o.dB, row * N + n, dh * gain * u);
        add(du, i, dh * gain * at(o.B, row * p.bPitch + n));
        const dDecay = reset ? 0 : dh * at(h, i);
        add(dDelta, i, dDecay * decay * a + dh * gainByDelta * input);
        add(o.dA, e * N + n, dDecay * decay * delta + dh * gainByA * input);
        carry = reset ? 0 : decay * dh;
      }
      if (o.dInitialState) o.dInitialState[(b * E + e) * N + n] = carry;
    }
    steps.forEach(({ row, u, slope, dy, gate, gateSlope }, i) => {
      if (o.du) o.du[row * E + e] = at(du, i);
      if (o.dDelta) o.dDelta[row * E + e] = at(dDelta, i) * slope;
      if (o.dz) o.dz[row * E + e] = dy * at(y, i) * gateSlope;
      add(o.dD, e, dy * gate * u);
      add(o.dDeltaBias, e, at(dDelta, i) * slope);
    });
  });
}

/** One step of `scanReference`. */
export function stepReference(
  o: Operands & { state: Float64Array; y: Float64Array },
  p: Strides & { batch: number; channels: number; stateSize: number; softplus: boolean; hold: boolean },
): void {
  const { channels: E, stateSize: N } = p;
  for (let b = 0; b < p.batch; b++) {
    for (let e = 0; e < E; e++) {
      const { u, delta, skip, gate } = readStep(o, p, b, e);
      let y = skip * u;
      for (let n = 0; n < N; n++) {
        const i = (b * E + e) * N + n;
        const { decay, gain } = discretize(delta, at(o.A, e * N + n), p.hold);
        o.state[i] = decay * at(o.state, i) + gain * at(o.B, b * p.bPitch + n) * u;
        y += at(o.C, b * p.cPitch + n) * at(o.state, i);
      }
      o.y[b * E + e] = y * gate;
    }
  }
}

function at(array: ArrayLike<number>, index: number): number {
  return array[index] ?? NaN;
}

function add(array: Float64Array | number[] | null | undefined, index: number, value: number): void {
  if (array) array[index] = at(array, index) + value;
}

function fail(): never {
  throw new RangeError('selectiveScan: no such step');
}
