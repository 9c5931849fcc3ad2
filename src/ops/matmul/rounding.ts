import type { Precision } from '../../tensor/index.js';
import { roundToHalf } from '../../util/half.js';
import { roundToBf16 } from './bf16.js';

/** Products of so few rows read their weights and little else: rounding would lose digits and win nothing. */
const fewRows = 8;

/** What the factors of a product of m rows are rounded to. */
export const roundedFactors = (precision: Precision, m: number): { bf16: boolean; half: boolean } => ({
  bf16: precision === 'bf16' && m > fewRows,
  half: precision === 'f16' && m > fewRows,
});

/** The rounding that a launch's flags name, for reference kernels. */
export function rounding({ bf16, half }: { bf16: boolean; half: boolean }): (x: number) => number {
  return bf16 ? roundToBf16 : half ? roundToHalf : (x) => x;
}
