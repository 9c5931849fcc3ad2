import { describe, expect, test } from 'vitest';
import { Tape } from '../../src/autograd/index.js';
import { layerNorm } from '../../src/ops/layer-norm/layer-norm.js';
import { rmsNorm } from '../../src/ops/rms-norm/rms-norm.js';
import { scope, tensor, type Tensor } from '../../src/tensor/index.js';
import { ArgumentError, ShapeError } from '../../src/util/errors.js';
import { Random } from '../../src/util/random.js';
import { compiledKernels, useBackend } from '../support/backends.js';
import { expectClose, tolerance } from '../support/compare.js';

const normals = (seed: number, size: number) => {
  const random = new Random(seed);
  return Float32Array.from({ length: size }, () => random.normal());
};

const bytesOf = (values: Float64Array | undefined) => Buffer.from(values?.buffer as ArrayBuffer);

async function readAll(tensors: readonly Tensor[]): Promise<Float64Array[]> {
  const values: Float64Array[] = [];
  for (const one of tensors) {
    values.push(await one.exactData());
    one.dispose();
  }
  return values;
}

type Norm = (x: Tensor, weight: Tensor, bias: Tensor, residual?: Tensor) => { y: Tensor; residual: Tensor };
const norms: readonly [string, Norm][] = [
  ['rmsNorm', (x, weight, _, residual) => rmsNorm(x, weight, { residual })],
  ['layerNorm', (x, weight, bias, residual) => layerNorm(x, weight, bias, { residual })],
];

describe.each(compiledKernels)('%s', (kernels) => {
  const backend = useBackend('cpu', { kernels });
  const oneThread = useBackend('cpu', { kernels, threads: 1 });

  describe.each(norms)('%s', (_, norm) => {
    const D = 100;
    const forward = async (x: Float32Array) =>
      readAll(
        scope(() => {
          const parameters = [tensor(backend(), normals(1, D), [D]), tensor(backend(), normals(2, D), [D])] as const;
          return [norm(tensor(backend(), x, [x.length / D, D]), ...parameters).y];
        }),
      );

    test('a batch gives what its rows give', async () => {
      const x = normals(3, 400 * D);
      const [batch = []] = await forward(x);
      for (const row of [0, 1, 163, 164, 399]) {
        const [alone = []] = await forward(x.slice(row * D, (row + 1) * D));
        expect([...alone]).toEqual([...batch.slice(row * D, (row + 1) * D)]);
      }
    });

    test('runs repeat to the bit, on any number of threads', async () => {
      const rows = 1003;
      const run = (on: ReturnType<typeof backend>) =>
        readAll(
          scope(() => {
            const make = (seed: number, ...shape: number[]) => tensor(on, normals(seed, shape.reduce((a, b) => a * b)), shape);
            const inputs = [make(4, rows, D), make(5, D), make(6, D), make(7, rows, D)] as const;
            const tape = new Tape(inputs);
            const { y, residual } = tape.run(() => norm(...inputs));
            const gradients = tape.backward([y, residual], [make(8, rows, D), make(9, rows, D)], inputs);
            return [y, residual, ...gradients.filter((gradient) => gradient !== null)];
          }),
        );
      const first = await run(backend());
      for (const on of [backend(), backend(), oneThread(), oneThread()]) {
        const again = await run(on);
        again.forEach((values, i) => {
          expect(bytesOf(values).equals(bytesOf(first[i])), `result ${i}`).toBe(true);
        });
      }
    });

    test('without a residual the second result is x, and passes its cotangent on once', async () => {
      const [x, dresidual] = [normals(10, 3 * D), normals(11, 3 * D)];
      const [same = [], dx = []] = await readAll(
        scope(() => {
          const input = tensor(backend(), x, [3, D]);
          const tape = new Tape([input]);
          const ones = tensor(backend(), new Float32Array(D).fill(1), [D]);
          const { residual } = tape.run(() => norm(input, ones, ones));
          return [residual, ...(tape.backward([residual], [tensor(backend(), dresidual, [3, D])], [input]) as Tensor[])];
        }),
      );
      expect([...same]).toEqual([...x]);
      expect([...dx]).toEqual([...dresidual]);
    });

    test('one tensor as x and residual gets both gradients', async () => {
      const x = normals(12, 4 * D);
      const gradients = (second: boolean) =>
        readAll(
          scope(() => {
            const [a, b] = [tensor(backend(), x, [4, D]), tensor(backend(), x, [4, D])];
            const ones = tensor(backend(), new Float32Array(D).fill(1), [D]);
            const tape = new Tape([a, b]);
            const { y } = tape.run(() => norm(a, ones, ones, second ? b : a));
            const found = tape.backward([y], [tensor(backend(), normals(13, 4 * D), [4, D])], second ? [a, b] : [a]);
            return found as Tensor[];
          }),
        );
      const [da = [], db = []] = await gradients(true);
      const [both = []] = await gradients(false);
      expectClose(both, Float64Array.from(da, (value, i) => value + (db[i] ?? NaN)), tolerance(), 'dx');
    });
  });
});

describe('arguments', () => {
  const backend = useBackend('reference');
  const zeros = (...shape: number[]) => tensor(backend(), new Float64Array(shape.reduce((a, b) => a * b, 1)), shape);

  test.each<[string, RegExp, new (problem: string) => Error, () => unknown]>([
    ['scalar', /rmsNorm: x is \[\]; expected \[…,D\]/, ShapeError, () => rmsNorm(zeros(), zeros(1))],
    ['weight', /rmsNorm: weight is \[3\]; expected \[D\] = \[4\]/, ShapeError, () => rmsNorm(zeros(2, 4), zeros(3))],
    ['residual', /residual is \[4\]; expected \[…,D\] = \[2,4\]/, ShapeError, () => rmsNorm(zeros(2, 4), zeros(4), { residual: zeros(4) })],
    ['epsilon', /epsilon is NaN; expected a number of 0 or more/, ArgumentError, () => rmsNorm(zeros(2, 4), zeros(4), { epsilon: NaN })],
    ['negative epsilon', /layerNorm: epsilon is -1/, ArgumentError, () => layerNorm(zeros(2, 4), zeros(4), null, { epsilon: -1 })],
    ['bias', /layerNorm: bias is \[1,4\]; expected \[D\] = \[4\]/, ShapeError, () => layerNorm(zeros(2, 4), zeros(4), zeros(1, 4))],
  ])('%s', (_, message, error, call) => {
    scope(() => {
      expect(call).toThrow(error);
      expect(call).toThrow(message);
    });
  });
});
