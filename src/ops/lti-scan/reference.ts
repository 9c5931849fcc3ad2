import { accumulate, at, conjugate, inverse, phi, plus, put, scaled, times, type Complex } from '../complex/numbers.js';

export interface ScanSizes {
  readonly batch: number;
  readonly length: number;
  readonly features: number;
  readonly states: number;
  readonly channels: number;
  readonly rank: number;
  readonly uPitch: number;
  readonly rule: number;
  readonly chunk: number;
}

interface Operands {
  readonly u: Float64Array;
  readonly change: Float64Array;
  readonly input: Float64Array;
  readonly C: Float64Array;
  readonly D: Float64Array | null;
  readonly left: Float64Array | null;
  readonly right: Float64Array | null;
}

type Sequence = Operands & { readonly steps: Float64Array | null; readonly sequenceStarts: Int32Array | null };

/** Rules by which a step of time τ makes the change and the input of a state: those that are given, held input, trapezoidal. */
export const rules = ['given', 'zoh', 'bilinear'] as const;

/** What a state is multiplied by besides 1, and its input by, and the derivatives of both by z = τ·a. */
function stepOf(a: Complex, b: Complex, time: number, rule: number) {
  if (rule === 0) return { change: a, input: b, changeSlope: [1, 0] as Complex, inputSlope: [0, 0] as Complex, gain: [1, 0] as Complex };
  const z = scaled(a, time);
  const bilinear = inverse([1 - z[0] / 2, -z[1] / 2]);
  const { value, slope } = rule === 1 ? phi(z) : { value: bilinear, slope: scaled(times(bilinear, bilinear), 0.5) };
  const gain = scaled(value, time);
  return {
    change: times(z, value),
    input: times(gain, b),
    changeSlope: plus(value, times(z, slope)),
    inputSlope: scaled(times(slope, b), time),
    gain,
  };
}

/** 2·Re Σ_n x[first + n]·s[n] */
const twice = (x: ArrayLike<number>, first: number, s: readonly Complex[]): number =>
  2 * s.reduce((sum, value, n) => sum + times(at(x, first + n), value)[0], 0);

/** The states of a feature after a step. */
function moved(o: Operands, p: ScanSizes, h: number, before: readonly Complex[], u: number, time: number): Complex[] {
  const inner = Array.from({ length: p.rank }, (_, r) => twice(o.right as Float64Array, (r * p.features + h) * p.states, before));
  return before.map((s, n) => {
    const i = h * p.states + n;
    const { change, input } = stepOf(at(o.change, i), at(o.input, i), time, p.rule);
    let next = plus(plus(s, times(change, s)), scaled(input, u));
    inner.forEach((value, r) => (next = plus(next, scaled(at(o.left as Float64Array, (r * p.features + h) * p.states + n), value))));
    return next;
  });
}

function putOutputs(o: Operands, p: ScanSizes, h: number, s: readonly Complex[], u: number, y: Float64Array, row: number): void {
  for (let c = 0; c < p.channels; c++) {
    const i = c * p.features + h;
    y[row * p.channels * p.features + i] = twice(o.C, i * p.states, s) + (o.D ? (o.D[i] ?? NaN) * u : 0);
  }
}

const zero = (states: number): Complex[] => Array.from({ length: states }, () => [0, 0]);
const stateAt = (array: Float64Array, first: number, states: number): Complex[] => Array.from({ length: states }, (_, n) => at(array, first + n));

export function scanReference(
  o: Sequence & { initialState: Float64Array | null; y: Float64Array; finalState: Float64Array; kept: Float64Array | null },
  p: ScanSizes,
): void {
  const chunks = Math.ceil(p.length / p.chunk);
  for (let b = 0; b < p.batch; b++) {
    for (let h = 0; h < p.features; h++) {
      const first = (b * p.features + h) * p.states;
      let s = o.initialState ? stateAt(o.initialState, first, p.states) : zero(p.states);
      for (let t = 0; t < p.length; t++) {
        const row = b * p.length + t;
        if (o.kept && t % p.chunk === 0) s.forEach((value, n) => { put(o.kept as Float64Array, ((b * chunks + t / p.chunk) * p.features + h) * p.states + n, value); });
        if (o.sequenceStarts?.[row]) s = zero(p.states);
        const u = o.u[row * p.uPitch + h] ?? NaN;
        s = moved(o, p, h, s, u, o.steps?.[row] ?? 1);
        putOutputs(o, p, h, s, u, o.y, row);
      }
      s.forEach((value, n) => { put(o.finalState, first + n, value); });
    }
  }
}

export function scanBackwardReference(
  o: Sequence & { kept: Float64Array } & Partial<
      Record<'dy' | 'dFinalState' | 'du' | 'dChange' | 'dInput' | 'dC' | 'dD' | 'dLeft' | 'dRight' | 'dInitialState', Float64Array | null>
    >,
  p: ScanSizes & { readonly dyPitch: number },
): void {
  const chunks = Math.ceil(p.length / p.chunk);
  for (const sum of [o.dChange, o.dInput, o.dC, o.dD, o.dLeft, o.dRight]) sum?.fill(0);
  for (let b = 0; b < p.batch; b++) {
    for (let h = 0; h < p.features; h++) {
      const first = (b * p.features + h) * p.states;
      const own = h * p.states;
      // Before each step, after a start has dropped it; and after it.
      let s = stateAt(o.kept, (b * chunks * p.features + h) * p.states, p.states);
      const steps = Array.from({ length: p.length }, (_, t) => {
        const row = b * p.length + t;
        const before = o.sequenceStarts?.[row] ? zero(p.states) : s;
        const [u, time] = [o.u[row * p.uPitch + h] ?? NaN, o.steps?.[row] ?? 1];
        s = moved(o, p, h, before, u, time);
        return { row, before, after: s, u, time };
      });
      let adjoint = o.dFinalState ? stateAt(o.dFinalState, first, p.states) : zero(p.states);
      for (const { row, before, after, u, time } of steps.toReversed()) {
        let du = 0;
        for (let c = 0; c < p.channels; c++) {
          const i = c * p.features + h;
          const dy = o.dy ? (o.dy[row * p.dyPitch + i] ?? NaN) : 0;
          adjoint = adjoint.map((value, n) => plus(value, scaled(conjugate(at(o.C, i * p.states + n)), 2 * dy)));
          after.forEach((value, n) => { accumulate(o.dC, i * p.states + n, scaled(conjugate(value), 2 * dy)); });
          if (o.dD) o.dD[i] = (o.dD[i] ?? NaN) + dy * u;
          du += dy * (o.D?.[i] ?? 0);
        }
        let next = adjoint.map((value, n) => {
          const i = own + n;
          const b = at(o.input, i);
          const { change, input, changeSlope, inputSlope, gain } = stepOf(at(o.change, i), b, time, p.rule);
          du += times(conjugate(value), input)[0];
          const [dChange, dInput] = [times(value, conjugate(at2(before, n))), scaled(value, u)];
          if (p.rule === 0) {
            accumulate(o.dChange, i, dChange);
            accumulate(o.dInput, i, dInput);
          } else {
            accumulate(o.dChange, i, scaled(plus(times(dChange, conjugate(changeSlope)), times(dInput, conjugate(inputSlope))), time));
            accumulate(o.dInput, i, times(dInput, conjugate(gain)));
          }
          return plus(value, times(value, conjugate(change)));
        });
        for (let r = 0; r < p.rank; r++) {
          const factor = (r * p.features + h) * p.states;
          const [left, right] = [o.left as Float64Array, o.right as Float64Array];
          const inner = twice(right, factor, before);
          const d = adjoint.reduce((sum, value, n) => sum + times(conjugate(value), at(left, factor + n))[0], 0);
          adjoint.forEach((value, n) => { accumulate(o.dLeft, factor + n, scaled(value, inner)); });
          before.forEach((value, n) => { accumulate(o.dRight, factor + n, scaled(conjugate(value), 2 * d)); });
          next = next.map((value, n) => plus(value, scaled(conjugate(at(right, factor + n)), 2 * d)));
        }
        if (o.du) o.du[row * p.features + h] = du;
        adjoint = o.sequenceStarts?.[row] ? zero(p.states) : next;
      }
      adjoint.forEach((value, n) => { if (o.dInitialState) put(o.dInitialState, first + n, value); });
    }
  }
}

export function stepReference(o: Operands & { state: Float64Array; y: Float64Array }, p: Omit<ScanSizes, 'length' | 'rule' | 'chunk'>): void {
  for (let b = 0; b < p.batch; b++) {
    for (let h = 0; h < p.features; h++) {
      const first = (b * p.features + h) * p.states;
      const u = o.u[b * p.uPitch + h] ?? NaN;
      const s = moved(o, { ...p, length: 1, rule: 0, chunk: 1 }, h, stateAt(o.state, first, p.states), u, 1);
      putOutputs(o, { ...p, length: 1, rule: 0, chunk: 1 }, h, s, u, o.y, b);
      s.forEach((value, n) => { put(o.state, first + n, value); });
    }
  }
}

const at2 = (values: readonly Complex[], n: number): Complex => values[n] ?? [NaN, NaN];
