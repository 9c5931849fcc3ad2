/** Extents and pitches, as the kernels get them. */
interface Extents {
  readonly batch: number;
  readonly length: number;
  readonly channels: number;
  readonly taps: number;
  readonly xPitch: number;
  readonly statePitch: number;
  readonly startsPitch: number;
}

/** Where position `t` of a sequence lies: in x, or, below 0, in the initial state. */
export function locate(p: Extents, b: number, t: number, e: number): { inState: boolean; at: number } {
  return t < 0
    ? { inState: true, at: (b * (p.taps - 1) + t + p.taps - 1) * p.statePitch + e }
    : { inState: false, at: (b * p.length + t) * p.xPitch + e };
}

/** Whether no document starts after position `from` and up to `to`: what is at `from` may then be seen at `to`. */
export function sameDocument(p: Extents, starts: Int32Array | null, b: number, from: number, to: number): boolean {
  for (let t = Math.max(0, from + 1); t <= to; t++) if (starts?.[b * p.startsPitch + t]) return false;
  return true;
}

/** Calls `body` for every position of every channel. */
export function forEachPosition(p: Extents, body: (b: number, t: number, e: number) => void): void {
  for (let b = 0; b < p.batch; b++) {
    for (let t = 0; t < p.length; t++) for (let e = 0; e < p.channels; e++) body(b, t, e);
  }
}

/** Calls `body` for every element of the final state, with the position whose input it holds. */
export function forEachFinal(p: Extents, body: (b: number, t: number, e: number, at: number) => void): void {
  for (let b = 0; b < p.batch; b++) {
    for (let i = 0; i < p.taps - 1; i++) {
      for (let e = 0; e < p.channels; e++) body(b, p.length - p.taps + 1 + i, e, (b * (p.taps - 1) + i) * p.channels + e);
    }
  }
}

export const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
