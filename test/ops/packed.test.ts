import { describe, expect, test } from 'vitest';
import { valueAndGradients } from '../../src/autograd/index.js';
import { openBackend } from '../../src/backend/open.js';
import { embedding, linear, linearCrossEntropy, packWeight, reshape, sum, unpackWeight } from '../../src/ops/index.js';
import { packedSizeBytes, packedDTypes, scope, tensor, withoutScope, type Backend, type PackedDType, type Tensor } from '../../src/tensor/index.js';
import { ArgumentError, DTypeError, ShapeError } from '../../src/util/errors.js';
import { Random } from '../../src/util/random.js';
import { compiledKernels, useBackend } from '../support/backends.js';
import { expectClose, tolerance } from '../support/compare.js';
import { idsOfDevice, read } from '../support/models.js';

/** Weights as trained ones are: normal, of other sizes in other rows, with outliers, zeros and very small blocks. */
function weights(rows: number, columns: number, seed = 1): Float32Array {
  const random = new Random(seed);
  return Float32Array.from({ length: rows * columns }, (_, i) => {
    const row = Math.floor(i / columns);
    if (row % 7 === 5) return row % 2 === 0 ? 0 : 1e-35 * random.normal();
    return random.normal() * 10 ** ((row % 5) - 2) * (random.uniform() < 0.02 ? 10 : 1);
  });
}

/** Extents around panels of 16 outputs and blocks of 32 inputs. */
const shapes = [
  [1, 1],
  [15, 31],
  [16, 32],
  [17, 33],
  [40, 100],
  [3, 300],
  [130, 64],
] as const;

const reference = useBackend('reference');

const bytesOf = (backend: Backend, values: Float32Array, shape: readonly number[], dtype: PackedDType) =>
  read(() => packWeight(tensor(backend, values, shape), dtype));
const roundTrip = (backend: Backend, values: Float32Array, shape: readonly number[], dtype: PackedDType) =>
  read(() => unpackWeight(packWeight(tensor(backend, values, shape), dtype)));

describe.each(packedDTypes)('%s', (dtype) => {
  describe.each(compiledKernels)('%s kernels', (kernels) => {
    const backend = useBackend('cpu', { kernels });

    test.each(shapes)('[%i,%i]: the same bytes as the reference, and what they say to the bit', async (rows, columns) => {
      const values = weights(rows, columns);
      const bytes = await bytesOf(backend(), values, [rows, columns], dtype);
      expect(bytes.length).toBe(packedSizeBytes(dtype, rows, columns));
      expect(Buffer.from(bytes).equals(Buffer.from(await bytesOf(reference(), values, [rows, columns], dtype)))).toBe(true);
      const unpacked = await roundTrip(backend(), values, [rows, columns], dtype);
      expect([...unpacked]).toEqual([...Float32Array.from(await roundTrip(reference(), values, [rows, columns], dtype))]);
    });

    test('a weight that is no number, or infinite, spoils its own block and no other', async () => {
      for (const bad of [NaN, Infinity, -Infinity]) {
        const values = weights(20, 70, 2).fill(0.5, 0, 70 * 5);
        values[3 * 70 + 40] = bad;
        const unpacked = await roundTrip(backend(), values, [20, 70], dtype);
        for (let i = 0; i < 20 * 70; i++) {
          const inBlock = dtype === 'bf16' ? i === 3 * 70 + 40 : Math.floor(i / 70) === 3 && i % 70 >= 32 && i % 70 < 64;
          expect(Number.isFinite(unpacked[i]), `weight ${i}`).toBe(!inBlock);
        }
      }
    });

    test('products and rows of a table have the same bits for any number of threads', async () => {
      const results = new Set<string>();
      for (const threads of [1, 2, 3]) {
        const other = await openBackend('cpu', { kernels, threads, poison: true });
        const [y, rows] = scope(() => {
          const packed = packWeight(tensor(other, weights(700, 130), [700, 130]), dtype);
          return [
            linear(tensor(other, weights(11, 130, 4), [11, 130]), packed),
            embedding(tensor(other, Int32Array.from({ length: 300 }, (_, i) => (i * 13) % 700), [300], 'i32'), packed),
          ] as const;
        });
        results.add(`${String(await y.data())} ${String(await rows.data())}`);
        y.dispose();
        rows.dispose();
        await other.close();
      }
      expect(results.size).toBe(1);
    });

    test('a captured product reads what its input holds when it is replayed', async () => {
      const [x, packed] = withoutScope(() => [
        tensor(backend(), new Float32Array(100), [1, 100]),
        scope(() => packWeight(tensor(backend(), weights(33, 100), [33, 100]), dtype)),
      ]);
      let y: Tensor | undefined;
      const program = backend().capture(() => {
        y = withoutScope(() => linear(x, packed));
      });
      for (const seed of [5, 6]) {
        (x).write(weights(1, 100, seed));
        program.replay();
        const replayed = await (y as Tensor).data();
        expect([...replayed]).toEqual([...(await read(() => linear(x, packed)))]);
      }
      program.dispose();
      for (const made of [x, y, packed]) made?.dispose();
    });
  });

  test('an id outside of the table gives a row of NaN', async () => {
    const rows = await read(() =>
      embedding(idsOfDevice(reference(), [-1, 5, 2], [3]), packWeight(tensor(reference(), weights(5, 8), [5, 8]), dtype)),
    );
    expect([...rows].map(Number.isNaN)).toEqual(Array.from({ length: 24 }, (_, i) => i < 16));
  });

  test('gradients through it are refused', () => {
    const message = /weight is (bf16|int8|int4); expected f32 where gradients are wanted\. Hint: packed weights are for inference/;
    const refused = (body: (x: Tensor, packed: Tensor) => Tensor) =>
      expect(() =>
        scope(() => {
          const packed = packWeight(tensor(reference(), weights(5, 8), [5, 8]), dtype);
          const x = tensor(reference(), weights(2, 8), [2, 8]);
          valueAndGradients([x, packed], () => sum(body(x, packed)));
        }),
      );
    const ids = () => tensor(reference(), [1, 2], [2], 'i32');
    for (const thrown of [
      refused((x, packed) => linear(x, packed)),
      refused((_, packed) => embedding(ids(), packed)),
      refused((x, packed) => linearCrossEntropy(x, packed, ids())),
    ]) {
      thrown.toThrow(ArgumentError);
      thrown.toThrow(message);
    }
    expect(reference().statistics().liveBuffers).toBe(0);
  });

  test('it has no parts and is not written to', () => {
    scope(() => {
      const packed = packWeight(tensor(reference(), weights(4, 8), [4, 8]), dtype);
      expect(() => reshape(packed, [32])).toThrow(DTypeError);
      expect(() => { packed.write(new Float32Array(32)); }).toThrow(DTypeError);
      expect(() => unpackWeight(tensor(reference(), [1], [1, 1]))).toThrow(DTypeError);
      expect(() => packWeight(packed, dtype)).toThrow(DTypeError);
      expect(() => packWeight(tensor(reference(), [1], [1]), dtype)).toThrow(ShapeError);
      const wide = tensor(reference(), new Float32Array(2 ** 21 + 1), [1, 2 ** 21 + 1]);
      expect(() => packWeight(wide, dtype)).toThrow('K at most 2097152');
      wide.dispose();
      expect(() => linear(tensor(reference(), [1], [1, 1]), packed)).toThrow(ShapeError);
    });
  });
});

// Many rows, and more outputs than one part of an integer format that becomes bf16 holds.
describe.each(compiledKernels)('%s kernels with bf16 products', (kernels) => {
  const backend = useBackend('cpu', { kernels, precision: 'bf16' });
  const rounding = useBackend('reference', { precision: 'bf16' });

  test.each([
    ...packedDTypes.flatMap((dtype) => [[dtype, 9, 33, 100] as const, [dtype, 40, 130, 64] as const]),
    ['int8', 9, 350, 1600] as const,
  ])(
    '%s, %i rows, %i outputs of %i inputs',
    async (dtype, rows, outputs, inputs) => {
      const of = (on: Backend) => () =>
        linear(
          tensor(on, weights(rows, inputs, 8).map((x) => Math.fround(Math.tanh(x))), [rows, inputs]),
          packWeight(tensor(on, weights(outputs, inputs), [outputs, inputs]), dtype),
          tensor(on, weights(outputs, 1, 5), [outputs]),
        );
      expectClose(await read(of(backend())), await read(of(rounding())), tolerance(inputs), 'y');
    },
  );
});

describe('rounding', () => {
  /** Calls `check` with each block's weights and what they became. */
  async function eachBlock(dtype: PackedDType, check: (before: Float32Array, after: Float64Array) => void): Promise<void> {
    const [rows, columns] = [60, 320];
    const values = weights(rows, columns, 3);
    const after = Float64Array.from(await roundTrip(reference(), values, [rows, columns], dtype));
    for (let i = 0; i < values.length; i += 32) check(values.subarray(i, i + 32), after.subarray(i, i + 32));
  }
  const largest = (values: ArrayLike<number>) => Array.from(values).reduce((most, value) => Math.max(most, Math.abs(value)), 0);

  test('bf16: at most 2⁻⁸ of a weight', () =>
    eachBlock('bf16', (before, after) => {
      before.forEach((value, i) => {
        expect(Math.abs((after[i] ?? NaN) - value)).toBeLessThanOrEqual(2 ** -8 * Math.abs(value) + 1e-40);
      });
    }));

  test('int8: at most half a step, a 127th of the block’s largest weight (rounded to bf16)', () =>
    eachBlock('int8', (before, after) => {
      const step = (largest(before) / 127) * (1 + 2 ** -8);
      before.forEach((value, i) => {
        expect(Math.abs((after[i] ?? NaN) - value)).toBeLessThanOrEqual(step / 2 + 1e-27);
      });
    }));

  test('int4: at most half of the widest step where codes reach, and the block’s largest weight loses at most a fifth', () =>
    eachBlock('int4', (before, after) => {
      const most = largest(before);
      before.forEach((value, i) => {
        // The widest step is 329 of 1792, the largest scale 41/32; the smallest scale reaches 26/32 one way, 0.66 the other.
        const error = Math.abs((after[i] ?? NaN) - value);
        expect(error).toBeLessThanOrEqual(most * (Math.abs(value) > 0.66 * most ? 0.345 : 0.12) + 1e-27);
      });
    }));

  test('of normal weights: the relative squared errors that the README states', async () => {
    const random = new Random(9);
    const values = Float32Array.from({ length: 256 * 320 }, () => random.normal());
    const power = values.reduce((sum, value) => sum + value * value, 0);
    const errors: number[] = [];
    for (const dtype of packedDTypes) {
      const after = await roundTrip(reference(), values, [256, 320], dtype);
      errors.push(values.reduce((sum, value, i) => sum + (value - (after[i] ?? NaN)) ** 2, 0) / power);
    }
    expect(errors[0]).toBeLessThan(4e-6);
    expect(errors[1]).toBeLessThan(3e-5);
    expect(errors[2]).toBeLessThan(5.7e-3);
  });
});
