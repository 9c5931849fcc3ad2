/**
 * The functions of one argument: value and derivative in float64. `derivative(x, y)` may use the value y = f(x). Their order
 * is the numbering the kernels use (enum UnaryFunction in cpu.cc).
 */
export const unaryFunctions = {
  negate: { value: (x: number) => -x, derivative: () => -1 },
  exp: { value: Math.exp, derivative: (_x: number, y: number) => y },
  log: { value: Math.log, derivative: (x: number) => 1 / x },
  square: { value: (x: number) => x * x, derivative: (x: number) => 2 * x },
  sqrt: { value: Math.sqrt, derivative: (_x: number, y: number) => 0.5 / y },
  reciprocal: { value: (x: number) => 1 / x, derivative: (_x: number, y: number) => -y * y },
  sigmoid: { value: sigmoid, derivative: (_x: number, y: number) => y * (1 - y) },
  silu: {
    value: (x: number) => x * sigmoid(x),
    derivative: (x: number, y: number) => y + sigmoid(x) * (1 - y),
  },
  softplus: { value: softplus, derivative: (x: number) => sigmoid(x) },
  tanh: { value: Math.tanh, derivative: (_x: number, y: number) => 1 - y * y },
  relu: { value: (x: number) => Math.max(x, 0), derivative: (x: number) => (x > 0 ? 1 : 0) },
  gelu: {
    value: (x: number) => x * normalDistribution(x),
    derivative: (x: number) => normalDistribution(x) + x * normalDensity(x),
  },
  geluTanh: {
    // 1 + tanh(z) = 2·sigmoid(2z), which loses no digits where tanh is near −1.
    value: (x: number) => x * sigmoid(geluTanhArgument(x)),
    derivative(x: number, y: number) {
      const s = sigmoid(geluTanhArgument(x));
      return s + y * (1 - s) * 2 * Math.sqrt(2 / Math.PI) * (1 + 3 * 0.044715 * x * x);
    },
  },
} as const;

export type UnaryFunction = keyof typeof unaryFunctions;

/** 1 / (1 + e^−x) */
export function sigmoid(x: number): number {
  return 1 / (1 + Math.exp(-x));
}

/** ln(1 + e^x), linear above 20 as in the published models (the difference there is 2e-9). */
export function softplus(x: number): number {
  return x > 20 ? x : Math.log1p(Math.exp(x));
}

/** e^(−x²/2) / √(2π) */
function normalDensity(x: number): number {
  return Math.exp(-0.5 * x * x) / Math.sqrt(2 * Math.PI);
}

/** Φ(x) = ½·(1 + erf(x/√2)): by its power series, and by Laplace’s continued fraction far from zero, where the series would cancel. */
export function normalDistribution(x: number): number {
  const a = Math.abs(x);
  if (a < 3) {
    let [term, sum] = [x, x];
    for (let n = 3; Math.abs(term) > 1e-17 * Math.abs(sum); n += 2) sum += term *= (x * x) / n;
    return 0.5 + sum * normalDensity(x);
  }
  let below = a;
  for (let n = 80; n >= 1; n--) below = a + n / below;
  const tail = normalDensity(x) / below;
  return x < 0 ? tail : 1 - tail;
}

/** 2·√(2/π)·(x + 0.044715·x³) */
const geluTanhArgument = (x: number): number => 2 * Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3);

/** Functions of two arguments, in the kernels' numbering (enum BinaryFunction in cpu.cc). */
export const binaryFunctions = {
  add: (a: number, b: number) => a + b,
  subtract: (a: number, b: number) => a - b,
  multiply: (a: number, b: number) => a * b,
  divide: (a: number, b: number) => a / b,
} as const;

export type BinaryFunction = keyof typeof binaryFunctions;

/** Functions that gate: those of a gated linear unit (Shazeer 2020). */
export const gateActivations = ['silu', 'gelu', 'geluTanh', 'sigmoid', 'relu'] as const satisfies readonly UnaryFunction[];

export type GateActivation = (typeof gateActivations)[number];

const unaryNames = Object.keys(unaryFunctions);

/** The number of a function of one argument, as kernels are told. */
export const unaryNumber = (name: UnaryFunction): number => unaryNames.indexOf(name);
