/**
 * Runs operations' cases. Plain JavaScript over a package that is handed in: vitest runs it on `src`, a browser or another
 * machine on `dist`.
 * @typedef {import('../../src/ops/cases.js').OperationCase} OperationCase
 * @typedef {import('../../src/ops/cases.js').CaseInput} CaseInput
 * @typedef {import('../../src/tensor/index.js').Backend} Backend
 * @typedef {import('../../src/tensor/index.js').Tensor} Tensor
 * @typedef {{ outputs: Float64Array[], gradients: Map<string, Float64Array> }} CaseResult gradients by input name
 * @typedef {Pick<typeof import('../../src/index.js'), 'Tape' | 'scope' | 'tensor' | 'Random'>} Package
 */

/** @param {Package} elapid */
export function caseRunner({ Tape, scope, tensor, Random }) {
  /**
   * Runs a case forward, and backward with random cotangents; the same seed gives the same numbers on every backend.
   * @param {Backend} backend
   * @param {OperationCase} operationCase
   * @param {'f32' | 'f16'} [dtype] what float inputs are stored as, of the cases that have a form in half precision
   * @returns {Promise<CaseResult>}
   */
  async function runCase(backend, operationCase, dtype = 'f32') {
    const inputs = operationCase.inputs(new Random(7));
    const names = differentiableNames(operationCase, inputs);
    const { outputs, gradients } = scope(() => {
      const tensors = uploadInputs(backend, inputs, (name) => (operationCase.half?.includes(name) === true ? dtype : 'f32'));
      const by = names.map((name) => pick(tensors, name));
      const tape = new Tape(by);
      const made = tape.run(() => operationCase.run((name) => pick(tensors, name)));
      // Integers have no gradients.
      const floats = made.map((output, i) => ({ output, i })).filter(({ output }) => output.dtype !== 'i32');
      const cotangents = floats.map(({ output, i }) => tensor(backend, cotangentValues(i, output.size), output.shape, output.dtype));
      return { outputs: [...made], gradients: tape.backward(floats.map(({ output }) => output), cotangents, by) };
    });
    /** @type {CaseResult} */
    const result = { outputs: [], gradients: new Map() };
    for (const output of outputs) result.outputs.push(await output.exactData());
    for (const [i, name] of names.entries()) {
      const gradient = gradients[i];
      if (!gradient) throw new Error(`${operationCase.name}: no gradient for ${name}`);
      result.gradients.set(name, await gradient.exactData());
      gradient.dispose();
    }
    for (const output of outputs) output.dispose();
    return result;
  }

  /**
   * Central differences of the reference's forward pass: d Σ ⟨outputs, cotangents⟩ / d input[element], for some elements of
   * each differentiable input.
   * @param {Backend} backend
   * @param {OperationCase} operationCase
   * @param {number} elementsPerInput
   */
  async function centralDifferences(backend, operationCase, elementsPerInput) {
    const inputs = operationCase.inputs(new Random(7));
    const choose = new Random(11);
    /** @type {Map<string, { element: number, slope: number }[]>} */
    const slopes = new Map();
    /** @param {Record<string, CaseInput>} changed */
    const objective = async (changed) => {
      const outputs = scope(() => {
        const tensors = uploadInputs(backend, changed, () => 'f32');
        return [...operationCase.run((name) => pick(tensors, name))];
      });
      let sum = 0;
      for (const [i, output] of outputs.entries()) {
        const values = await output.exactData();
        const weights = cotangentValues(i, output.size);
        for (let j = 0; j < values.length; j++) sum += (values[j] ?? NaN) * (weights[j] ?? NaN);
        output.dispose();
      }
      return sum;
    };
    for (const name of differentiableNames(operationCase, inputs)) {
      const input = inputs[name];
      if (input === undefined) throw new Error(`${operationCase.name}: no input ${name}`);
      /** @type {{ element: number, slope: number }[]} */
      const found = [];
      const count = Math.min(elementsPerInput, input.values.length);
      for (let n = 0; n < count; n++) {
        const element = count === input.values.length ? n : choose.integer(input.values.length);
        const centre = input.values[element] ?? NaN;
        const step = 1e-5 * Math.max(1, Math.abs(centre));
        /** @param {number} value */
        const at = async (value) => {
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

  /**
   * @param {OperationCase} operationCase
   * @param {Record<string, CaseInput>} inputs
   * @returns {readonly string[]}
   */
  function differentiableNames({ differentiable }, inputs) {
    return differentiable ?? Object.keys(inputs).filter((name) => inputs[name]?.dtype !== 'i32');
  }

  /**
   * @param {Backend} backend
   * @param {Record<string, CaseInput>} inputs
   * @param {(name: string) => 'f32' | 'f16'} floatDType
   */
  function uploadInputs(backend, inputs, floatDType) {
    return new Map(
      Object.entries(inputs).map(([name, { shape, dtype, values }]) => [
        name,
        tensor(backend, values, shape, dtype === 'i32' ? 'i32' : floatDType(name)),
      ]),
    );
  }

  /**
   * @param {Map<string, Tensor>} tensors
   * @param {string} name
   */
  function pick(tensors, name) {
    const found = tensors.get(name);
    if (found === undefined) throw new Error(`the case has no input '${name}'`);
    return found;
  }

  /**
   * @param {number} output
   * @param {number} size
   */
  function cotangentValues(output, size) {
    const random = new Random(1000 + output);
    return Float32Array.from({ length: size }, () => random.normal());
  }

  return { runCase, centralDifferences };
}
