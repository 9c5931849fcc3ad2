/** Sizes are rounded up to an eighth of their power of two, at least 64 bytes: few classes, at most 1/8 waste. */
export function sizeClass(sizeBytes: number): number {
  if (sizeBytes <= 512) return Math.max(64, Math.ceil(sizeBytes / 64) * 64);
  const step = 2 ** (Math.floor(Math.log2(sizeBytes - 1)) - 2);
  return Math.ceil(sizeBytes / step) * step;
}
