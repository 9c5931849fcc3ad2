import { describe, expect, test } from 'vitest';
import { Tape } from '../../src/autograd/index.js';
import { embedding } from '../../src/ops/embedding/embedding.js';
import { max } from '../../src/ops/reduction/max.js';
import { logSoftmax, softmax } from '../../src/ops/softmax/softmax.js';
import { scope, tensor, type Tensor } from '../../src/tensor/index.js';
import { Random } from '../../src/util/random.js';
import { compiledKernels, useBackend } from '../support/backends.js';
import { idsOfDevice } from '../support/models.js';

describe.each(compiledKernels)('%s', (kernels) => {
  const backend = useBackend('cpu', { kernels });
  const alone = useBackend('cpu', { kernels, threads: 1 });
  const random = (size: number, seed = 3) => {
    const source = new Random(seed);
    return Float32Array.from({ length: size }, () => source.normal());
  };
  const read = async (made: Tensor) => {
    const values = await made.data();
    made.dispose();
    return values;
  };

  test('embedding: ids out of range give rows of NaN and no gradient', async () => {
    const [y, dWeight] = scope(() => {
      const weight = tensor(backend(), random(10), [2, 5]);
      const ids = idsOfDevice(backend(), [1, -1, 2, 2 ** 31 - 1, -(2 ** 31), 0], [6]);
      const tape = new Tape([weight]);
      const y = tape.run(() => embedding(ids, weight));
      const [gradient] = tape.backward([y], [tensor(backend(), new Float32Array(30).fill(1), [6, 5])], [weight]);
      return [y, gradient ?? expect.fail('no gradient')] as const;
    });
    expect(Array.from(await read(y), Number.isNaN)).toEqual(Array.from({ length: 30 }, (_, i) => i >= 5 && i < 25));
    expect(Array.from(await read(dWeight))).toEqual(new Array<number>(10).fill(1));
  });

  test('embedding: the gradient of repeated ids is the same to the bit in every run, for any number of threads', async () => {
    const gradientOn = async (on: ReturnType<typeof backend>) => {
      const source = new Random(9);
      const ids = Int32Array.from({ length: 3000 }, () => source.integer(4));
      const made = scope(() => {
        const weight = tensor(on, random(4 * 200), [4, 200]);
        const tape = new Tape([weight]);
        const y = tape.run(() => embedding(tensor(on, ids, [3000], 'i32'), weight));
        return tape.backward([y], [tensor(on, random(3000 * 200), [3000, 200])], [weight])[0] ?? expect.fail('no gradient');
      });
      return read(made);
    };
    const first = await gradientOn(alone());
    for (let run = 0; run < 3; run++) expect(await gradientOn(backend())).toEqual(first);
  });

  test('gradient rules take cotangents with gaps between their rows', async () => {
    const [gappy, dense] = [true, false].map((gap) =>
      scope(() => {
        const x = tensor(backend(), random(60), [3, 20]);
        const ids = tensor(backend(), [2, 0, 2], [3], 'i32');
        const wide = tensor(backend(), random(3 * 25, 5), [3, 25]);
        const part = wide.aliased([3, 20], 2, 25);
        return [softmax, logSoftmax, (t: Tensor) => embedding(ids, t), (t: Tensor) => max(t, 0)].map((operation) => {
          const tape = new Tape([x]);
          const y = tape.run(() => operation(x));
          const whole = y.rank === 1 ? part.aliased([20]) : part;
          const copied = Float32Array.from({ length: y.size }, (_, i) => random(75, 5)[2 + Math.floor(i / 20) * 25 + (i % 20)] ?? NaN);
          const dy = gap ? whole : tensor(backend(), copied, y.shape);
          return tape.backward([y], [dy], [x])[0] ?? expect.fail('no gradient');
        });
      }),
    );
    for (const [i, gradient] of gappy?.entries() ?? []) {
      expect(await read(gradient)).toEqual(await read(dense?.[i] ?? expect.fail('missing')));
    }
  });

  test('softmax: a logit of −∞ has probability 0 exactly, one far below underflows to 0; NaN spreads over its row only', async () => {
    const x = tensor(backend(), [0, -Infinity, 0, -1e4, 1, NaN, 2, 3], [2, 4]);
    expect(Array.from(await read(softmax(x)))).toEqual([0.5, 0, 0.5, 0, NaN, NaN, NaN, NaN]);
    const logarithms = await read(logSoftmax(x));
    expect(logarithms[1]).toBe(-Infinity);
    expect(logarithms[3]).toBeCloseTo(-1e4 - Math.log(2), 2);
    x.dispose();
  });

  test('max: NaN wins wherever it stands, whatever the axis', async () => {
    for (const at of [0, 1, 5, 17, 40, 69]) {
      const values = random(70);
      values[at] = NaN;
      const x = tensor(backend(), values, [70]);
      const column = tensor(backend(), values, [70, 1]);
      const pair = tensor(backend(), Float32Array.from({ length: 140 }, (_, i) => values[i >> 1] ?? NaN), [70, 2]);
      expect(await read(max(x, 0))).toEqual(Float32Array.of(NaN));
      expect(await read(max(column))).toEqual(Float32Array.of(NaN));
      expect(await read(max(pair, 0))).toEqual(Float32Array.of(NaN, NaN));
      for (const made of [x, column, pair]) made.dispose();
    }
  });

  test('arguments that do not fit are refused before anything is launched', () => {
    const x = tensor(backend(), random(12), [3, 4]);
    const none = tensor(backend(), [], [0, 4]);
    const ids = tensor(backend(), [1], [1], 'i32');
    const vector = tensor(backend(), random(4), [4]);
    backend().resetStatistics();
    expect(() => embedding(x, x)).toThrow('embedding: ids is f32; expected i32');
    expect(() => embedding(ids, vector)).toThrow('embedding: weight is [4]; expected [V,D]');
    expect(() => max(x, 2)).toThrow('max: axis is 2; expected an axis of [3,4]');
    expect(() => max(none, 0)).toThrow('max: axis is 0; expected an axis of [0,4] with elements');
    expect(backend().statistics().launches).toBe(0);
    for (const made of [x, none, ids, vector]) made.dispose();
  });
});
