import { wgslMath } from '../../../wgsl/math.js';
import { gather, laneOf, vectorOf } from '../../../wgsl/vectors.js';

/** Σ x^k·coefficient(k) for k < terms, by Horner's rule. */
const polynomial = (terms: number, coefficient: (k: number) => number): string =>
  Array.from({ length: terms }, (_, k) => coefficient(k).toPrecision(9)).reduceRight((inner, k) => (inner === '' ? k : `${k} + x * (${inner})`), '');

const factorial = (k: number): number => (k < 2 ? 1 : k * factorial(k - 1));

/**
 * WGSL functions of Δ·A·log₂e (`x2`) for vectors of `lanes` states. `decay(x2)` is exp(ΔA). With zero-order hold also
 * `gain(x2, delta)`, (exp(ΔA) − 1)/A, and `gain_slope(x2, delta)`, its derivative by A: Δ²·ψ(ΔA), ψ(x) = (x·eˣ − eˣ + 1)/x²; both
 * by their series near 0, where the differences would lose their digits.
 */
export function discretizationCode(lanes: number, hold: boolean): string {
  const type = vectorOf(lanes);
  const each = (name: string) => gather(lanes, (lane) => `${name}(${laneOf(lanes, 'x2', lane)}, delta)`);
  const vectors =
    lanes === 1
      ? ''
      : `fn gain(x2: ${type}, delta: f32) -> ${type} { return ${each('gain1')}; }
         fn gain_slope(x2: ${type}, delta: f32) -> ${type} { return ${each('gain_slope1')}; }`;
  const names = lanes === 1 ? ['gain', 'gain_slope'] : ['gain1', 'gain_slope1'];
  return `
    ${wgslMath}
    fn decay(x2: ${type}) -> ${type} { return exp2(x2); }
    ${
      hold
        ? `fn ${names[0] ?? ''}(x2: f32, delta: f32) -> f32 {
             let x = x2 * ${Math.LN2};
             if (abs(x) < 0.75) { return delta * (${polynomial(10, (k) => 1 / factorial(k + 1))}); }
             return delta * ((exp2(x2) - 1.0) / x);
           }
           fn ${names[1] ?? ''}(x2: f32, delta: f32) -> f32 {
             let x = x2 * ${Math.LN2};
             if (abs(x) < 0.75) { return delta * delta * (${polynomial(11, (k) => 1 / (factorial(k) * (k + 2)))}); }
             let e = exp2(x2);
             return delta * delta * (((x - 1.0) * e + 1.0) / (x * x));
           }
           ${vectors}`
        : ''
    }`;
}
