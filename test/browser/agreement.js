// Runs in the browser: every operation's cases on its WebGPU. Leaves what disagrees in globalThis.results.
import * as built from 'elapid';
import * as builtCases from '../../dist/ops/all-cases.js';
import { checkCase, listCases } from '../webgpu/agreement.js';

// The built package has classes of its own; the functions are typed by those of src.
const [elapid, operations] = /** @type {any[]} */ ([built, builtCases]);

async function run() {
  const gpu = await elapid.openBackend('webgpu', { poison: true });
  const reference = await elapid.openBackend('reference');
  const { description } = gpu;
  const listed = listCases(operations, false);
  const failures = [];
  for (const entry of listed) {
    const agreement = await checkCase(elapid, { gpu, reference }, entry);
    for (const failure of agreement.failures) failures.push(`${agreement.name}: ${failure}`);
  }
  await gpu.close();
  return { description, checked: listed.length, failures };
}

globalThis.results = run();
