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

/** Functions of two arguments, in the kernels' numbering (enum BinaryFunction in cpu.cc). */
export const binaryFunctions = {
  add: (a: number, b: number) => a + b,
  subtract: (a: number, b: number) => a - b,
  multiply: (a: number, b: number) => a * b,
  divide: (a: number, b: number) => a / b,
} as const;

export type BinaryFunction = keyof typeof binaryFunctions;
