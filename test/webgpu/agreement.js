/**
 * Runs every operation's cases on WebGPU and on the reference backend of the built package, and compares. Plain JavaScript
 * over a package that is handed in: Node runs it on SwiftShader or a GPU, a browser on its own.
 */
import { caseRunner } from '../support/run-case.js';
import { halfTolerance, relativeError, tolerance } from '../support/tolerances.js';

/**
 * @typedef {typeof import('../../src/index.js')} Elapid
 * @typedef {typeof import('../../src/ops/all-cases.js')} Cases
 * @typedef {import('../../src/tensor/index.js').Backend} Backend
 * @typedef {{ name: string, dtype: 'f32' | 'f16', failures: string[] }} Agreement
 */

/**
 * The cases in all the dtypes that the GPU has.
 * @param {Cases} cases
 * @param {boolean} half
 * @param {RegExp} [filter] of `folder / case (dtype)`
 */
export function listCases({ operationCases }, half, filter = /(?:)/) {
  return Object.entries(operationCases)
    .flatMap(([folder, list]) => list.map((operationCase) => ({ folder, operationCase })))
    .flatMap(({ folder, operationCase }) =>
      /** @type {const} */ (['f32', 'f16'])
        .filter((dtype) => dtype === 'f32' || (half && operationCase.half !== undefined))
        .map((dtype) => ({ name: `${folder} / ${operationCase.name} (${dtype})`, operationCase, dtype })),
    )
    .filter(({ name }) => filter.test(name));
}

/**
 * Compares one case's outputs and gradients with the reference's.
 * @param {Elapid} elapid
 * @param {{ gpu: Backend, reference: Backend }} backends
 * @param {ReturnType<typeof listCases>[number]} listed
 * @returns {Promise<Agreement>}
 */
export async function checkCase(elapid, { gpu, reference }, { name, operationCase, dtype }) {
  const { runCase } = caseRunner(elapid);
  /** @type {string[]} */
  const failures = [];
  const { liveBuffers: before } = gpu.statistics();
  try {
    const expected = await runCase(reference, operationCase, dtype);
    const actual = await runCase(gpu, operationCase, dtype);
    const limit = dtype === 'f16' ? halfTolerance : tolerance(operationCase.reductionLength);
    /**
     * @param {string} label
     * @param {ArrayLike<number>} values
     * @param {ArrayLike<number>} right
     */
    const compare = (label, values, right) => {
      const error = relativeError(values, right);
      if (!(error <= limit)) failures.push(`${label}: relative error ${error.toExponential(2)}, at most ${limit.toExponential(2)} is allowed`);
    };
    actual.outputs.forEach((values, i) => {
      compare(`output ${i}`, values, expected.outputs[i] ?? []);
    });
    for (const [input, values] of actual.gradients) compare(`d${input}`, values, expected.gradients.get(input) ?? []);
  } catch (error) {
    failures.push(error instanceof Error ? error.message : String(error));
  }
  const left = gpu.statistics().liveBuffers - before;
  if (left > 0) failures.push(`${left} live buffers are left`);
  return { name, dtype, failures };
}
