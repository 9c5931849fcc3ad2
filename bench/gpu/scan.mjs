// Selective scan and convolution on this machine's GPU, timed by its own clock, beside what limits them.
//   node bench/gpu/scan.mjs [regular expression of names]
// Limits of the GPU it is meant for, an H100 (memory 2.7 TB/s read and written, 4.2e12 exponentials/s); others are given as
// LIMIT_BYTES and LIMIT_EXPONENTIALS, a second each.
import * as elapid from '../../dist/index.js';

const bytesPerSecond = Number(process.env.LIMIT_BYTES ?? 2.7e12);
const exponentialsPerSecond = Number(process.env.LIMIT_EXPONENTIALS ?? 4.2e12);
const rounds = 5;
const runs = 20;
const warmUp = Number(process.env.WARM_UP ?? 1500);
const { Tape, scope, tensor } = elapid;
const backend = /** @type {any} */ (await elapid.openBackend('webgpu'));
const half = backend.features.f16 ? 'f16' : 'f32';
const filter = new RegExp(process.argv[2] ?? '');

let seed = 1;
/** Uniform numbers in [low, high): a short generator, for the tensors are large. */
function numbers(shape, low, high, dtype) {
  const values = new Float32Array(shape.reduce((product, extent) => product * extent, 1));
  for (let i = 0; i < values.length; i++) {
    seed = (Math.imul(seed, 1664525) + 1013904223) | 0;
    values[i] = low + ((high - low) * (seed >>> 8)) / 2 ** 24;
  }
  return tensor(backend, values, shape, dtype);
}

function scanInputs(B, L, E, N, dtype) {
  const activation = () => numbers([B, L, E], -1, 1, dtype);
  return {
    u: activation(),
    delta: numbers([B, L, E], -5, -2, dtype),
    A: numbers([E, N], -N, -1, 'f32'),
    B: numbers([B, L, N], -1, 1, dtype),
    C: numbers([B, L, N], -1, 1, dtype),
    z: activation(),
    D: numbers([E], -1, 1, 'f32'),
    deltaBias: numbers([E], -0.1, 0.1, 'f32'),
  };
}

const runScan = ({ u, delta, A, B, C, ...options }) => elapid.selectiveScan(u, delta, A, B, C, { ...options, deltaSoftplus: true }).y;

/** A scan forward, or forward and backward. */
function scan(name, { B, L, E, N = 16, dtype = half, backward = false }) {
  const size = B * L * E;
  const item = dtype === 'f16' ? 2 : 4;
  const exponentials = size * N * (backward ? 3 : 1);
  // u, delta, z, y; and back u, delta, z, dy, du, dDelta, dz.
  const bytes = size * item * (backward ? 11 : 4);
  return {
    name: `${name} B${B} L${L} E${E} N${N} ${dtype}${backward ? ', forward+backward' : ''}`,
    exponentials,
    bytes,
    make() {
      const inputs = scanInputs(B, L, E, N, dtype);
      const all = Object.values(inputs);
      const dy = backward ? numbers([B, L, E], -1, 1, dtype) : null;
      return {
        run: () =>
          scope(() => {
            if (dy === null) return void runScan(inputs);
            const tape = new Tape(all);
            const [y] = tape.run(() => [runScan(inputs)]);
            for (const gradient of tape.backward([y], [dy.retain()], all)) gradient?.dispose();
          }),
        tensors: [...all, ...(dy === null ? [] : [dy])],
      };
    },
  };
}

function convolution(name, { B, L, E, K = 4, dtype = half, backward = false }) {
  const item = dtype === 'f16' ? 2 : 4;
  return {
    name: `${name} B${B} L${L} E${E} K${K} ${dtype}${backward ? ', forward+backward' : ''}`,
    exponentials: B * L * E * (backward ? 2 : 1),
    bytes: B * L * E * item * (backward ? 5 : 2),
    make() {
      const x = numbers([B, L, E], -1, 1, dtype);
      const weight = numbers([E, K], -1, 1, 'f32');
      const bias = numbers([E], -1, 1, 'f32');
      const dy = backward ? numbers([B, L, E], -1, 1, dtype) : null;
      const forward = () => elapid.causalConv1d(x, weight, { bias, activation: 'silu' }).y;
      return {
        run: () =>
          scope(() => {
            if (dy === null) return void forward();
            const tape = new Tape([x, weight, bias]);
            const [y] = tape.run(() => [forward()]);
            for (const gradient of tape.backward([y], [dy.retain()], [x, weight, bias])) gradient?.dispose();
          }),
        tensors: [x, weight, bias, ...(dy === null ? [] : [dy])],
      };
    },
  };
}

/** One token of the scan and the convolution. */
function step(B, E, N = 16, K = 4) {
  return {
    name: `steps B${B} E${E} N${N} K${K} ${half}`,
    exponentials: B * E * N,
    bytes: B * E * 4 * 2 * (N + K - 1),
    make() {
      const state = numbers([B, E, N], -1, 1, 'f32');
      const window = numbers([B, K - 1, E], -1, 1, 'f32');
      const weight = numbers([E, K], -1, 1, 'f32');
      const A = numbers([E, N], -N, -1, 'f32');
      const [u, delta, z] = [0, 1, 2].map(() => numbers([B, E], -1, 1, half));
      const [Bt, Ct] = [0, 1].map(() => numbers([B, N], -1, 1, half));
      return {
        run: () =>
          scope(() => {
            const x = elapid.causalConv1dStep(window, u, weight, { activation: 'silu' });
            elapid.selectiveScanStep(state, x, delta, A, Bt, Ct, { z, deltaSoftplus: true });
          }),
        tensors: [state, window, weight, A, u, delta, z, Bt, Ct],
      };
    },
  };
}

const rows = [
  scan('scan', { B: 8, L: 2048, E: 1536 }),
  scan('scan', { B: 8, L: 2048, E: 1536, backward: true }),
  scan('scan', { B: 8, L: 2048, E: 1536, dtype: 'f32' }),
  scan('scan', { B: 8, L: 2048, E: 1536, dtype: 'f32', backward: true }),
  scan('long scan', { B: 1, L: 131072, E: 1024 }),
  scan('long scan', { B: 1, L: 131072, E: 1024, backward: true }),
  scan('prefill', { B: 1, L: 2048, E: 1536 }),
  scan('prefill', { B: 1, L: 2048, E: 1536, backward: true }),
  convolution('convolution', { B: 8, L: 2048, E: 1536 }),
  convolution('convolution', { B: 8, L: 2048, E: 1536, backward: true }),
  convolution('convolution', { B: 1, L: 2048, E: 1536 }),
  ...[1, 16, 128].map((B) => step(B, 1536)),
];

console.log(backend.description);
for (const { name, exponentials, bytes, make } of rows.filter((row) => filter.test(row.name))) {
  try {
    const { run, tensors } = make();
    // A GPU that was idle runs slowly for a second or so.
    for (const start = performance.now(); performance.now() - start < warmUp; await backend.synchronize()) for (let i = 0; i < 8; i++) run();
    /** @type {{ total: number, kernels: string }[]} */
    const times = [];
    for (let round = 0; round < rounds; round++) {
      backend.startProfile();
      for (let i = 0; i < runs; i++) run();
      const kernels = await backend.kernelTimes();
      times.push({
        total: kernels.reduce((sum, { milliseconds }) => sum + milliseconds, 0) / runs,
        kernels: kernels.map(({ kernel, milliseconds }) => `${kernel} ${(milliseconds / runs).toFixed(4)}`).join(', '),
      });
    }
    times.sort((a, b) => a.total - b.total);
    const { total, kernels } = times[Math.floor(rounds / 2)];
    const [byMemory, byExponentials] = [(bytes / bytesPerSecond) * 1e3, (exponentials / exponentialsPerSecond) * 1e3];
    const [limit, what] = byMemory > byExponentials ? [byMemory, 'memory'] : [byExponentials, 'exponentials'];
    console.log(`${name}: ${total.toFixed(4)} ms, ${((100 * limit) / total).toFixed(0)} % of the limit by ${what} (${limit.toFixed(4)} ms); ${kernels}`);
    for (const made of tensors) made.dispose();
  } catch (error) {
    console.log(`${name}: ${error instanceof Error ? error.message : String(error)}`);
  }
}
await backend.close();
