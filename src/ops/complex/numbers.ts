/** Complex numbers in float64, for references. */
export type Complex = readonly [re: number, im: number];

export const conjugate = ([re, im]: Complex): Complex => [re, -im];
export const plus = (x: Complex, y: Complex): Complex => [x[0] + y[0], x[1] + y[1]];
export const times = (x: Complex, y: Complex): Complex => [x[0] * y[0] - x[1] * y[1], x[0] * y[1] + x[1] * y[0]];
export const scaled = (x: Complex, by: number): Complex => [x[0] * by, x[1] * by];

/** x̄ / (|x|² + ε), 1/x for ε = 0 */
export function inverse([re, im]: Complex, epsilon = 0): Complex {
  const below = re * re + im * im + epsilon;
  return [re / below, -im / below];
}

export function exponential([re, im]: Complex): Complex {
  const size = Math.exp(re);
  return [size * Math.cos(im), size * Math.sin(im)];
}

/** (e^z − 1) / z and its derivative (e^z − φ) / z; by their series within the unit circle, where the differences would cancel. */
export function phi(z: Complex): { readonly value: Complex; readonly slope: Complex } {
  if (z[0] * z[0] + z[1] * z[1] < 1) {
    let [value, slope, power]: [Complex, Complex, Complex] = [[0, 0], [0, 0], [1, 0]];
    for (let k = 0, factorial = 1; k < 20; k++) {
      factorial *= k + 1;
      value = plus(value, scaled(power, 1 / factorial));
      slope = plus(slope, scaled(power, (k + 1) / (factorial * (k + 2))));
      power = times(power, z);
    }
    return { value, slope };
  }
  const e = exponential(z);
  const value = times([e[0] - 1, e[1]], inverse(z));
  return { value, slope: times([e[0] - value[0], e[1] - value[1]], inverse(z)) };
}

/** Number i of an array of complex numbers. */
export const at = (array: ArrayLike<number>, i: number): Complex => [array[2 * i] ?? NaN, array[2 * i + 1] ?? NaN];

export function put(array: Float64Array, i: number, [re, im]: Complex): void {
  array[2 * i] = re;
  array[2 * i + 1] = im;
}

export function accumulate(array: Float64Array | null | undefined, i: number, value: Complex): void {
  if (array) put(array, i, plus(at(array, i), value));
}
