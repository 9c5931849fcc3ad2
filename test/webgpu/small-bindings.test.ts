/** Launches in parts, on a GPU of which it is said that little of a buffer can be bound. */
import { describe, expect, test } from 'vitest';
import { generateTokens } from '../../src/generate/index.js';
import * as elapid from '../../src/index.js';
import { mambaConfig, type LanguageModel } from '../../src/models/index.js';
import * as operations from '../../src/ops/all-cases.js';
import { add, softmax, ssd } from '../../src/ops/index.js';
import { copyInto } from '../../src/ops/view/view.js';
import { empty, scope, type Backend } from '../../src/tensor/index.js';
import { gpuIsHere, useBackend, useChangedGpu } from '../support/backends.js';
import { expectClose } from '../support/compare.js';
import { randomIds, smallModel } from '../support/models.js';
import { isNight } from '../support/rare-cases.js';
import { TinyRun } from '../support/training.js';
import { checkCase, listCases } from './agreement.js';

/** Cases whose single rows and sequences can be bound, few enough for a software GPU. */
const everySuite = [
  {
    // Two minutes of a software GPU: a test of the night.
    nightly: true,
    bytes: 2 ** 14,
    filter: new RegExp(
      '^((embedding|elementwise|reduction|rms-norm|layer-norm|softmax|causal-conv1d) / ' +
        '(?!.*(a vocabulary|L = 1000 in|E = 1050|equal values))' +
        '|norm-linear / x .1,768|cross-entropy / (vocabulary of 1000|length 1000)' +
        '|matmul / linear, 300 rows|packed / linear, int4, 1 rows, 64)',
    ),
  },
  { bytes: 4864, filter: /^packed \/ embedding/ },
  { bytes: 144 * 2 ** 10, filter: /^adamw \/ (40000|norm of 1)/ },
  // Half a minute each of a software GPU, the training below more than a minute: tests of the night.
  { nightly: true, bytes: 300_000, filter: /^selective-scan \/ (model: B 3, L 200.*16 |step, model)/ },
  // The first goes in rounds of chunks as well.
  { nightly: true, bytes: 150 * 2 ** 10, filter: /^(ssd \/ documents: B 2, L 150|gated-norm \/ x \[1000,33\])/ },
];
const suites = everySuite.filter(({ nightly = false }) => !nightly || isNight);

describe.runIf(gpuIsHere).each(suites)('operations where $bytes bytes can be bound', ({ bytes, filter }) => {
  const gpu = useChangedGpu({ bindingBytes: bytes });
  const reference = useBackend('reference');
  let divided = 0;

  test.each(listCases(operations, false, filter))('$name', async (listed) => {
    const launches = () => gpu().statistics().launches - reference().statistics().launches;
    const before = launches();
    const { failures } = await checkCase(elapid, { gpu: gpu(), reference: reference() }, listed);
    expect(failures).toEqual([]);
    if (launches() > before) divided++;
  });

  test('many of them in parts', () => {
    expect(divided).toBeGreaterThan(1);
  });
});

describe.runIf(gpuIsHere && isNight)('a sequence whose states are more than can be bound', () => {
  const gpu = useChangedGpu({ bindingBytes: 4864 });
  const reference = useBackend('reference');

  test('goes in rounds of chunks', async () => {
    const [L, P, N] = [12, 16, 16];
    const values = (seed: number, length: number) => Float32Array.from({ length }, (_, i) => Math.sin(seed + 7 * i) / 2);
    const results = (backend: Backend) => {
      const make = (seed: number, ...shape: number[]) => elapid.tensor(backend, values(seed, shape.reduce((a, b) => a * b)), shape);
      const delta = elapid.tensor(backend, new Float32Array(L).fill(0.25), [1, L, 1]);
      const A = elapid.tensor(backend, new Float32Array([-0.5]), [1]);
      const options = { chunk: 2, initialState: make(4, 1, 1, P, N) };
      const { y, finalState } = ssd(make(1, 1, L, P), delta, A, make(2, 1, L, N), make(3, 1, L, N), options);
      return [y, finalState];
    };
    const read = async (backend: Backend) => {
      const tensors = scope(() => results(backend));
      const numbers = await Promise.all(tensors.map((tensor) => tensor.exactData()));
      for (const tensor of tensors) tensor.dispose();
      return numbers;
    };
    const expected = await read(reference());
    for (const [i, numbers] of (await read(gpu())).entries()) expectClose(numbers, expected[i] as Float64Array, 1e-5, ['y', 'finalState'][i] as string);
  });
});

describe.runIf(gpuIsHere)('a model of which little can be bound', () => {
  const gpu = useChangedGpu({ bindingBytes: 160 * 2 ** 10 });
  const cpu = useBackend('cpu');

  test.runIf(isNight)('is trained', async () => {
    const config = mambaConfig({ vocabularySize: 256, dModel: 64, layers: 1 });
    const options = { batchSize: 4, length: 48, accumulation: 1 };
    const text = Uint8Array.from(randomIds(2000, 256));
    const results = [];
    for (const backend of [gpu(), cpu()]) {
      const run = new TinyRun(backend, { config, options, text });
      const { launches } = backend.statistics();
      const steps = await run.steps(2);
      results.push({ steps, launches: backend.statistics().launches - launches, snapshot: await run.snapshot() });
      run.dispose();
    }
    const [there, here] = results;
    if (there === undefined || here === undefined) throw new Error('two runs');
    expect(there.launches).toBeGreaterThan(here.launches + 20);
    here.steps.forEach(({ loss, gradientNorm }, i) => {
      expect(there.steps[i]?.loss).toBeCloseTo(loss, 4);
      expect((there.steps[i]?.gradientNorm ?? NaN) / gradientNorm).toBeCloseTo(1, 3);
    });
    for (const [key, values] of Object.entries(here.snapshot)) {
      if (values instanceof Float32Array) expectClose(there.snapshot[key] as Float32Array, values, 1e-3, key);
      else expect(there.snapshot[key], key).toEqual(values);
    }
  });

  test('generates', async () => {
    const generated = async (backend: Backend) => {
      const model: LanguageModel = smallModel(backend, { vocabularySize: 4001 });
      const ids: number[] = [];
      for await (const id of generateTokens(model, randomIds(5, 4001), { temperature: 0, maxTokens: 20 })) ids.push(id);
      model.dispose();
      return ids;
    };
    expect(await generated(gpu())).toEqual(await generated(cpu()));
  });
});

describe.runIf(gpuIsHere)('what cannot be divided', () => {
  const gpu = useChangedGpu({ bindingBytes: 2 ** 14 });

  test('is an error that says so, before anything of it has run', () => {
    scope(() => {
      const launches = () => gpu().statistics().launches;
      const start = launches();
      const rows = empty(gpu(), [3, 5000]);
      const filled = launches();
      expect(() => softmax(rows)).toThrow(
        /^softmax: x has 20\d\d\d bytes, in a launch that cannot be divided further; at most 16384 can be bound here\. Hint: /,
      );
      // What softmax was to write has been filled with NaN, as its input was.
      expect(launches() - filled).toBe(filled - start);
    });
  });

  test('may be captured where it can be divided', async () => {
    const [x, y] = [0, 1].map(() => elapid.tensor(gpu(), randomIds(30000, 1000), [30, 1000])) as [elapid.Tensor, elapid.Tensor];
    const program = gpu().capture(() => {
      scope(() => {
        copyInto(add(x, x), y);
      });
    });
    program.replay();
    expect([...(await y.data())]).toEqual([...(await x.data())].map((value) => 2 * value));
    program.dispose();
    x.dispose();
    y.dispose();
  });
});
