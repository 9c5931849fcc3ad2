/** The nearest number that half precision (IEEE 754 binary16) has, ties to even; too large ones become infinite. */
export function roundToHalf(value: number): number {
  const magnitude = Math.abs(value);
  if (!(magnitude < 65520)) return Number.isNaN(value) ? NaN : Math.sign(value) * Infinity;
  // The spacing of numbers of this exponent; below 2⁻¹⁴ it stays.
  const exponent = magnitude < 2 ** -14 ? -14 : Math.floor(Math.log2(magnitude));
  const spacing = 2 ** (exponent - 10);
  const steps = magnitude / spacing;
  const rounded = Math.round(steps);
  const even = rounded - steps === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
  return Math.sign(value) * even * spacing;
}
