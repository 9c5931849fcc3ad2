import { describe, expect, test } from 'vitest';
import { adamwStep, globalNorm } from '../../src/ops/adamw/adamw.js';
import { tensor, type Backend, type Tensor } from '../../src/tensor/index.js';
import { Random } from '../../src/util/random.js';
import { compiledKernels, useBackend } from '../support/backends.js';
import { expectClose, tolerance } from '../support/compare.js';

const settings = { learningRate: 0.01, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1 };

interface State {
  parameters: Float64Array;
  firstMoments: Float64Array;
  secondMoments: Float64Array;
}

/** The textbook, in float64, one parameter at a time. */
function textbookStep(state: State, gradients: Float64Array, decayCount: number, maxNorm: number, step: number): void {
  const { learningRate, beta1, beta2, epsilon, weightDecay } = settings;
  const norm = Math.hypot(...gradients);
  const clip = Math.min(1, maxNorm / (norm + 1e-6));
  state.parameters.forEach((parameter, i) => {
    const g = (gradients[i] ?? NaN) * clip;
    const m = beta1 * (state.firstMoments[i] ?? NaN) + (1 - beta1) * g;
    const v = beta2 * (state.secondMoments[i] ?? NaN) + (1 - beta2) * g ** 2;
    state.firstMoments[i] = m;
    state.secondMoments[i] = v;
    const decayed = i < decayCount ? parameter * (1 - learningRate * weightDecay) : parameter;
    const corrected = Math.sqrt(v / (1 - beta2 ** step)) + epsilon;
    state.parameters[i] = decayed - (learningRate * m) / (1 - beta1 ** step) / corrected;
  });
}

const count = 203;
const decayCount = 101;

function start(backend: Backend) {
  const random = new Random(5);
  const initial = Float32Array.from({ length: count }, () => random.normal());
  const gradientsOf = Array.from({ length: 20 }, () => Float32Array.from({ length: count }, () => random.normal()));
  const state: State = {
    parameters: Float64Array.from(initial),
    firstMoments: new Float64Array(count),
    secondMoments: new Float64Array(count),
  };
  const tensors = {
    parameters: tensor(backend, initial, [count]),
    gradients: tensor(backend, initial, [count]),
    firstMoments: tensor(backend, new Float32Array(count), [count]),
    secondMoments: tensor(backend, new Float32Array(count), [count]),
  };
  return { state, tensors, gradientsOf };
}

const dispose = (tensors: Record<string, Tensor>) => {
  for (const made of Object.values(tensors)) made.dispose();
};

describe.each(compiledKernels)('%s', (kernels) => {
  const backend = useBackend('cpu', { kernels });

  // The norm of 203 standard normal numbers is about 14.
  test.each([1, 14, 1000])('20 steps, gradients clipped to %d, agree with float64', async (maxGradientNorm) => {
    const { state, tensors, gradientsOf } = start(backend());
    for (const [i, gradients] of gradientsOf.entries()) {
      tensors.gradients.write(gradients);
      const gradientNorm = globalNorm(tensors.gradients);
      adamwStep({ ...tensors, decayCount, gradientNorm, maxGradientNorm }, { ...settings, step: i + 1 });
      gradientNorm.dispose();
      textbookStep(state, Float64Array.from(gradients), decayCount, maxGradientNorm, i + 1);
    }
    for (const name of ['parameters', 'firstMoments', 'secondMoments'] as const) {
      expectClose(await tensors[name].data(), state[name], tolerance(), name);
    }
    dispose(tensors);
  });

  test.each([NaN, Infinity, -Infinity])('a norm of %d changes nothing', async (norm) => {
    const { state, tensors } = start(backend());
    const gradientNorm = tensor(backend(), [norm], [1]);
    tensors.gradients.write(new Float32Array(count).fill(norm));
    adamwStep({ ...tensors, decayCount, gradientNorm, maxGradientNorm: 1 }, { ...settings, step: 1 });
    adamwStep({ ...tensors, decayCount, gradientNorm }, { ...settings, step: 1 });
    for (const name of ['parameters', 'firstMoments', 'secondMoments'] as const) {
      expect(Float64Array.from(await tensors[name].data())).toEqual(state[name]);
    }
    dispose({ ...tensors, gradientNorm });
  });

  test('weight decay ends at decayCount, in the middle of a vector', async () => {
    const { state, tensors } = start(backend());
    tensors.gradients.write(new Float32Array(count));
    adamwStep({ ...tensors, decayCount }, { ...settings, step: 1 });
    const changed = Array.from(await tensors.parameters.data(), (value, i) => value !== state.parameters[i]);
    expect(changed).toEqual(Array.from({ length: count }, (_, i) => i < decayCount));
    dispose(tensors);
  });

  test('a small decay keeps its size on average; as a float32 factor 1 − decay it would be 1.3 % too large', async () => {
    const random = new Random(8);
    const size = 4096;
    const initial = Float32Array.from({ length: size }, () => 1 + random.uniform());
    const zeros = () => tensor(backend(), new Float32Array(size), [size]);
    const tensors = { parameters: tensor(backend(), initial, [size]), gradients: zeros(), firstMoments: zeros(), secondMoments: zeros() };
    const steps = 500;
    for (let step = 1; step <= steps; step++) {
      adamwStep({ ...tensors, decayCount: size }, { ...settings, learningRate: 1e-5, weightDecay: 0.1, step });
    }
    const final = await tensors.parameters.data();
    const total = (values: ArrayLike<number>) => Array.from(values).reduce((a, b) => a + b, 0);
    const decay = 1 - total(final) / total(initial);
    expect(Math.abs(decay / (1 - (1 - 1e-6) ** steps) - 1)).toBeLessThan(0.005);
    dispose(tensors);
  });

  test('the norm of 3 million numbers keeps all digits, whatever the number of threads, and repeats to the bit', async () => {
    const size = 3_000_000;
    const values = new Float32Array(size).fill(0.1);
    values[size - 1] = 3;
    const x = tensor(backend(), values, [size]);
    const norms = await Promise.all(
      Array.from({ length: 3 }, async () => {
        const norm = globalNorm(x);
        const value = await norm.item();
        norm.dispose();
        return value;
      }),
    );
    const exact = Math.fround(Math.sqrt((size - 1) * Math.fround(0.1) ** 2 + 9));
    expect(norms).toEqual([exact, exact, exact]);
    x.dispose();
  });
});

describe('arguments', () => {
  const backend = useBackend('cpu');
  test('that are wrong are refused before anything is launched', () => {
    const { tensors } = start(backend());
    const two = tensor(backend(), [1, 2], [2]);
    backend().resetStatistics();
    const step = { ...settings, step: 1 };
    expect(() => { adamwStep({ ...tensors, gradients: two, decayCount }, step); }).toThrow('gradients is [2]; expected [n] of parameters = [203]');
    expect(() => { adamwStep({ ...tensors, gradientNorm: two, decayCount }, step); }).toThrow('gradientNorm is [2]');
    expect(() => { adamwStep({ ...tensors, decayCount: 204 }, step); }).toThrow('decayCount is 204; expected an integer in [0, 203]');
    expect(() => { adamwStep({ ...tensors, decayCount, maxGradientNorm: 1 }, step); }).toThrow('left out where gradientNorm is');
    expect(() => { adamwStep({ ...tensors, decayCount }, { ...step, step: 0 }); }).toThrow('step is 0; expected an integer from 1 on');
    expect(() => { adamwStep({ ...tensors, decayCount }, { ...step, beta2: 1 }); }).toThrow('beta2 is 1; expected in [0, 1)');
    expect(backend().statistics().launches).toBe(0);
    dispose({ ...tensors, two });
  });
});
