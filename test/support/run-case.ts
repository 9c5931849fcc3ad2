import { Tape } from '../../src/autograd/index.js';
import { scope, tensor, type Backend, type HostArray, type Tensor } from '../../src/tensor/index.js';
import type { CaseInput, OperationCase } from '../../src/ops/cases.js';
import { Random } from '../../src/util/random.js';

export interface CaseResult {
  outputs: HostArray[];
  /** By input name. */
  gradients: Map<string, HostArray>;
}

/** Runs a case forward, and backward with random cotangents; the same seed gives the same numbers on every backend. */
export async function runCase(backend: Backend, operationCase: OperationCase): Promise<CaseResult> {
  const inputs = operationCase.inputs(new Random(7));
  const names = differentiableNames(operationCase, inputs);
  const { outputs, gradients } = scope(() => {
    const tensors = uploadInputs(backend, inputs);
    const by = names.map((name) => pick(tensors, name));
    const tape = new Tape(by);
    const made = tape.run(() => operationCase.run((name) => pick(tensors, name)));
    const cotangents = made.map((output, i) => tensor(backend, cotangentValues(i, output.size), output.shape));
    return { outputs: [...made], gradients: tape.backward(made, cotangents, by) };
  });
  const result: CaseResult = { outputs: [], gradients: new Map() };
  for (const output of outputs) result.outputs.push(await output.data());
  for (const [i, name] of names.entries()) {
    const gradient = gradients[i];
    if (!gradient) throw new Error(`${operationCase.name}: no gradient for ${name}`);
    result.gradients.set(name, await gradient.data());
    gradient.dispose();
  }
  for (const output of outputs) output.dispose();
  return result;
}

/**
 * Central differences of the reference's forward pass: d Σ ⟨outputs, cotangents⟩ / d input[element], for some elements of
 * each differentiable input.
 */
export async function centralDifferences(
  backend: Backend,
  operationCase: OperationCase,
  elementsPerInput: number,
): Promise<Map<string, { element: number; slope: number }[]>> {
  const inputs = operationCase.inputs(new Random(7));
  const choose = new Random(11);
  const slopes = new Map<string, { element: number; slope: number }[]>();
  const objective = async (changed: Record<string, CaseInput>): Promise<number> => {
    const outputs = scope(() => {
      const tensors = uploadInputs(backend, changed);
      return [...operationCase.run((name) => pick(tensors, name))];
    });
    let sum = 0;
    for (const [i, output] of outputs.entries()) {
      const values = await output.data();
      const weights = cotangentValues(i, output.size);
      for (let j = 0; j < values.length; j++) sum += (values[j] ?? NaN) * (weights[j] ?? NaN);
      output.dispose();
    }
    return sum;
  };
  for (const name of differentiableNames(operationCase, inputs)) {
    const input = inputs[name];
    if (input === undefined) throw new Error(`${operationCase.name}: no input ${name}`);
    const found: { element: number; slope: number }[] = [];
    const count = Math.min(elementsPerInput, input.values.length);
    for (let n = 0; n < count; n++) {
      const element = count === input.values.length ? n : choose.integer(input.values.length);
      const centre = input.values[element] ?? NaN;
      const step = 1e-5 * Math.max(1, Math.abs(centre));
      const at = async (value: number) => {
        const values = Float64Array.from(input.values);
        values[element] = value;
        return objective({ ...inputs, [name]: { ...input, values } });
      };
      found.push({ element, slope: ((await at(centre + step)) - (await at(centre - step))) / (2 * step) });
    }
    slopes.set(name, found);
  }
  return slopes;
}

function differentiableNames({ differentiable }: OperationCase, inputs: Record<string, CaseInput>): readonly string[] {
  return differentiable ?? Object.keys(inputs).filter((name) => inputs[name]?.dtype !== 'i32');
}

function uploadInputs(backend: Backend, inputs: Record<string, CaseInput>): Map<string, Tensor> {
  return new Map(
    Object.entries(inputs).map(([name, { shape, dtype, values }]) => [name, tensor(backend, values, shape, dtype ?? 'f32')]),
  );
}

function pick(tensors: Map<string, Tensor>, name: string): Tensor {
  const found = tensors.get(name);
  if (found === undefined) throw new Error(`the case has no input '${name}'`);
  return found;
}

function cotangentValues(output: number, size: number): Float32Array {
  const random = new Random(1000 + output);
  return Float32Array.from({ length: size }, () => random.normal());
}
