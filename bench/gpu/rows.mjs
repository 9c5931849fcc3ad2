// Row and vector kernels on the GPU: norms, losses, embedding, optimiser, sampling. GPU milliseconds and GB/s of the bytes that
// must be read and written once. Of the built package.
//   node bench/gpu/rows.mjs [regular expression of names]
import { openBackend, scope, Tape } from '../../dist/index.js';
import { fill } from '../../dist/backend/memory/kernels.js';
import * as crossEntropy from '../../dist/ops/cross-entropy/kernels.js';
import * as embedding from '../../dist/ops/embedding/kernels.js';
import * as ops from '../../dist/ops/index.js';
import { empty, launch, tensor } from '../../dist/tensor/index.js';

const rounds = 7;
const backend = /** @type {any} */ (await openBackend('webgpu'));
const half = backend.features.f16;
console.log(backend.description);
const filter = new RegExp(process.argv[2] ?? '');

/** @param {number[]} shape @param {any} dtype */
const made = (shape, dtype = 'f32', value = 0.5) => {
  const values = empty(backend, shape, dtype);
  launch(fill, { values }, { value, count: values.size });
  return values;
};

/** @param {number[]} shape @param {number} bound */
const someIds = (shape, bound) => {
  const size = shape.reduce((a, b) => a * b, 1);
  // Frequencies as in text: the rank r with a probability of about 1 / r.
  return tensor(backend, Int32Array.from({ length: size }, (_, i) => Math.floor(bound ** ((i * 0.6180339887) % 1)) % bound), shape, 'i32');
};

/**
 * @param {string} name
 * @param {number} bytes
 * @param {() => (() => void)} prepare
 */
async function measure(name, bytes, prepare) {
  if (!filter.test(name)) return;
  const run = prepare();
  for (let i = 0; i < 3; i++) run();
  await backend.synchronize();
  const times = [];
  for (let round = 0; round < rounds; round++) {
    backend.startProfile();
    run();
    const kernels = await backend.kernelTimes();
    times.push(kernels.reduce((/** @type {number} */ sum, /** @type {any} */ kernel) => sum + kernel.milliseconds, 0));
  }
  times.sort((a, b) => a - b);
  const [best, middle] = [times[0] ?? NaN, times[rounds >> 1] ?? NaN];
  const rate = (bytes / middle / 1e6).toFixed(0);
  console.log(`${name.padEnd(44)} best ${best.toFixed(4)} ms  median ${middle.toFixed(4)} ms  ${rate.padStart(5)} GB/s`);
}

/** @param {() => void} body */
const inScope = (body) => () => {
  scope(() => {
    body();
    return [];
  });
};

const dtypes = half ? ['f32', 'f16'] : ['f32'];
const bytesOf = (/** @type {string} */ dtype) => (dtype === 'f16' ? 2 : 4);
const [rows, columns, vocabulary] = [16384, 768, 50280];
const size = rows * columns;

for (const dtype of dtypes) {
  const b = bytesOf(dtype);
  for (const kind of ['rms', 'layer']) {
    const norm = (/** @type {any} */ x, /** @type {any} */ weight, /** @type {any} */ bias, /** @type {any} */ residual) =>
      kind === 'rms' ? ops.rmsNorm(x, weight, { residual }) : ops.layerNorm(x, weight, bias, { residual });
    const inputs = () => [made([rows, columns], dtype), made([columns]), made([columns]), made([rows, columns])];
    await measure(`${kind} norm with residual ${dtype}`, size * (2 * b + 8), () => {
      const [x, weight, bias, residual] = inputs();
      return inScope(() => norm(x, weight, bias, residual));
    });
    await measure(`${kind} norm with residual, one row ${dtype}`, columns * (2 * b + 8), () => {
      const [x, weight, bias, residual] = [made([1, columns], dtype), made([columns]), made([columns]), made([1, columns])];
      return inScope(() => norm(x, weight, bias, residual));
    });
    // Forward and backward; the backward pass reads sum, dy and dresidual and writes the gradients.
    await measure(`${kind} norm, forward and backward ${dtype}`, size * (2 * b + 8 + 8 + 2 * b + 4), () => {
      const [x, weight, bias, residual] = inputs();
      const [dy, dsum] = [made([rows, columns], dtype), made([rows, columns])];
      return inScope(() => {
        const by = kind === 'rms' ? [x, weight, residual] : [x, weight, bias, residual];
        const tape = new Tape(/** @type {any} */ (by));
        const result = tape.run(() => norm(x, weight, bias, residual));
        tape.backward([result.y, result.residual], [dy, dsum], /** @type {any} */ (by));
      });
    });
  }
}

for (const dtype of dtypes) {
  const b = bytesOf(dtype);
  const chunk = 1024;
  const targets = someIds([chunk], vocabulary);
  const losses = made([chunk]);
  const extents = { rows: chunk, columns: vocabulary };
  await measure(`token losses ${dtype}`, chunk * vocabulary * b, () => {
    const logits = made([chunk, vocabulary], dtype);
    return () => launch(crossEntropy.tokenLosses, { logits, targets, losses }, { ...extents, logitsPitch: vocabulary });
  });
  await measure(`token losses in place ${dtype}`, 2 * chunk * vocabulary * b, () => {
    const logits = made([chunk, vocabulary], dtype);
    return () => launch(crossEntropy.tokenLossesInPlace, { logits, targets, losses }, extents);
  });
  await measure(`softmax ${dtype}`, 2 * chunk * vocabulary * b, () => {
    const x = made([chunk, vocabulary], dtype);
    return inScope(() => ops.softmax(x));
  });
}

for (const dtype of dtypes) {
  const b = bytesOf(dtype);
  const ids = someIds([rows], vocabulary);
  await measure(`embedding ${dtype}`, 2 * size * b, () => {
    const weight = made([vocabulary, columns], dtype);
    return inScope(() => ops.embedding(ids, weight));
  });
  for (const [name, from] of /** @type {const} */ ([['', ids], [', one id', tensor(backend, new Int32Array(rows), [rows], 'i32')]])) {
    await measure(`embedding backward ${dtype}${name}`, size * b + vocabulary * columns * 4, () => {
      const [dy, dWeight] = [made([rows, columns], dtype), made([vocabulary, columns])];
      const parameters = { tokens: rows, vocabulary, columns, dyPitch: columns, accumulate: false };
      return () => launch(embedding.embeddingBackward, { ids: from, dy, dWeight }, parameters);
    });
  }
}

const parameterCount = 130_000_000;
await measure('global norm of 130M', parameterCount * 4, () => {
  const x = made([parameterCount]);
  return inScope(() => ops.globalNorm(x));
});
await measure('scaled sum of 130M', parameterCount * 4, () => {
  const [values, scale, total] = [made([parameterCount]), made([1]), made([1])];
  return () => launch(crossEntropy.scaledSum, { values, scale, total }, { count: parameterCount });
});
await measure('adamw of 130M', parameterCount * 28, () => {
  const [parameters, gradients, firstMoments, secondMoments] = [0, 1, 2, 3].map(() => made([parameterCount]));
  const tensors = /** @type {any} */ ({ parameters, gradients, firstMoments, secondMoments, decayCount: parameterCount });
  const settings = { learningRate: 1e-4, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1, step: 3 };
  const gradientNorm = made([1]);
  return () => ops.adamwStep({ ...tensors, gradientNorm, maxGradientNorm: 1 }, settings);
});
await measure('column sums [1024,50280]', 1024 * vocabulary * 4, () => {
  const [x, y] = [made([1024, vocabulary]), made([vocabulary])];
  return () => launch(crossEntropy.columnSums, { x, y }, { rows: 1024, columns: vocabulary, accumulate: false });
});

for (const dtype of dtypes) {
  const b = bytesOf(dtype);
  const pair = () => [made([rows, columns], dtype), made([rows, columns], dtype)];
  await measure(`multiply ${dtype}`, 3 * size * b, () => {
    const [x, y] = pair();
    return inScope(() => ops.multiply(/** @type {any} */ (x), /** @type {any} */ (y)));
  });
  await measure(`silu ${dtype}`, 2 * size * b, () => {
    const [x] = pair();
    return inScope(() => ops.silu(/** @type {any} */ (x)));
  });
}

for (const dtype of dtypes) {
  for (const batch of [1, 16, 128]) {
    for (const temperature of [0, 1]) {
      await measure(`sampling [${batch},50280] at temperature ${temperature} ${dtype}`, batch * vocabulary * bytesOf(dtype), () => {
        const logits = made([batch, vocabulary], dtype);
        const [ids, counter] = [tensor(backend, new Int32Array(batch), [batch], 'i32'), tensor(backend, [0], [1], 'i32')];
        const history = tensor(backend, new Int32Array(batch * 64), [batch, 64], 'i32');
        return () => ops.sampleTokens(logits, { ids, counter, history }, { temperature, seed: 1 });
      });
    }
  }
}
await backend.close();
