// Every operation's cases on this machine's GPU against the reference backend, in f32 and, where the GPU has it, f16, a model's
// gradients in mixed precision against float32, and products as large as those of training; of the built package (npm run build).
// Prints a summary; exits with 1 where something disagrees.
//   node scripts/test-webgpu.mjs [regular expression of names] [bytes]
// With a number of bytes, no dispatch uses more of a buffer, and launches are divided; what then cannot be is counted.
import { openGpuDevice } from '../dist/backend/webgpu/device.js';
import { WebGpuBackend } from '../dist/backend/webgpu/webgpu-backend.js';
import * as elapid from '../dist/index.js';
import * as operations from '../dist/ops/all-cases.js';
import { gemmInto } from '../dist/ops/matmul/gemm.js';
import { checkCase, listCases } from '../test/webgpu/agreement.js';
import { largeProductErrors, largeTolerance } from '../test/webgpu/large-products.js';
import { mixedGradientErrors, mixedTolerance } from '../test/webgpu/mixed-precision.js';

const [pattern = '', bytes = 'Infinity'] = process.argv.slice(2);
const open = async () => {
  const { features, ...device } = await openGpuDevice();
  const bindingBytes = Math.min(features.bindingBytes, Number(bytes));
  return new WebGpuBackend({ ...device, features: { ...features, bindingBytes } }, { poison: true });
};
let gpu = await open();
const reference = await elapid.openBackend('reference');
console.log(gpu.description);
const filter = new RegExp(pattern);
const listed = listCases(operations, gpu.features.f16, filter);
const start = performance.now();
let checked = listed.length;
let failed = 0;
let undivided = 0;
for (const entry of listed) {
  const { name, failures } = await checkCase(elapid, { gpu, reference }, entry);
  if (failures.length === 0) continue;
  // What was made before the launch that cannot be divided is left.
  const divisible = failures.filter((failure) => !failure.includes('cannot be divided further'));
  if (divisible.length < failures.length && divisible.every((failure) => failure.endsWith('live buffers are left'))) {
    undivided++;
    console.log(`not divided: ${name}`);
    continue;
  }
  failed++;
  // A kernel that does not compile takes its device with it.
  await gpu.close().catch(() => undefined);
  gpu = await open();
  console.log(`FAILED ${name}\n  ${failures.join('\n  ')}`);
}
const mixed = 'mixed precision / gradients of a model';
if (gpu.features.f16 && filter.test(mixed)) {
  checked++;
  const errors = await mixedGradientErrors(elapid);
  const worst = errors.reduce((most, one) => (one.error <= most.error ? most : one));
  console.log(`${mixed}: at most ${worst.error.toExponential(1)} of the norm, of ${worst.key}; ${mixedTolerance} is allowed`);
  if (!errors.every(({ error }) => error <= mixedTolerance)) failed++;
}
const large = 'mixed precision / large products';
if (gpu.features.f16 && filter.test(large)) {
  for (const { form, error } of await largeProductErrors(elapid, gemmInto, 128, 'f16')) {
    checked++;
    if (error <= largeTolerance) continue;
    failed++;
    console.log(`FAILED ${large}: ${form}: ${error.toExponential(1)} of the largest, ${largeTolerance} is allowed`);
  }
}
const seconds = (performance.now() - start) / 1000;
const whole = undivided === 0 ? '' : `, ${undivided} could not be divided`;
const passed = checked - failed - undivided;
console.log(`${checked} cases, ${passed} passed, ${failed} failed${whole}, ${seconds.toFixed(1)} s`);
await Promise.all([gpu.close(), reference.close()]);
process.exitCode = failed === 0 && checked > 0 ? 0 : 1;
