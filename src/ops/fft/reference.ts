export interface ConvExtents {
  readonly batch: number;
  readonly length: number;
  readonly channels: number;
  readonly features: number;
  readonly taps: number;
  readonly reverseTaps: number;
  readonly kernelPitch: number;
  readonly skipPitch: number;
  readonly reversePitch: number;
}

/** The angle 2π·numerator/denominator. */
export function turn(numerator: number, denominator: number): { cos: number; sin: number } {
  const angle = (2 * Math.PI * (numerator % denominator)) / denominator;
  return { cos: Math.cos(angle), sin: Math.sin(angle) };
}

/**
 * Calls `body` for every product of a convolution: the input at s times tap j of `from` is part of the output at t. Before the first of an
 * output comes 'start'.
 */
export function convolve(
  p: ConvExtents,
  body: (b: number, t: number, c: number, h: number, s: number, from: 'kernel' | 'D' | 'reverseKernel' | 'start', j: number) => void,
): void {
  for (let b = 0; b < p.batch; b++) {
    for (let t = 0; t < p.length; t++) {
      for (let c = 0; c < p.channels; c++) {
        for (let h = 0; h < p.features; h++) {
          body(b, t, c, h, t, 'start', 0);
          for (let j = 0; j < Math.min(p.taps, t + 1); j++) body(b, t, c, h, t - j, 'kernel', j);
          body(b, t, c, h, t, 'D', 0);
          for (let j = 0; j < p.reverseTaps && t + 1 + j < p.length; j++) body(b, t, c, h, t + 1 + j, 'reverseKernel', j);
        }
      }
    }
  }
}

/** Calls `body` for every number of a real transform's spectra: row, frequency, its weight, where it lies, whether it is its own conjugate. */
export function eachFrequency(
  p: { readonly rows: number; readonly length: number; readonly interior: number; readonly ends: number },
  body: (r: number, k: number, weight: number, at: number, isEnd: boolean) => void,
): void {
  const frequencies = Math.floor(p.length / 2) + 1;
  for (let r = 0; r < p.rows; r++) {
    for (let k = 0; k < frequencies; k++) {
      const isEnd = k === 0 || 2 * k === p.length;
      body(r, k, isEnd ? p.ends : p.interior, 2 * (r * frequencies + k), isEnd);
    }
  }
}
