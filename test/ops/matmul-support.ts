import { gemmInto } from '../../src/ops/matmul/gemm.js';
import { empty, scope, tensor, type Backend } from '../../src/tensor/index.js';
import { Random } from '../../src/util/random.js';

/** A product as `gemmInto` computes it. */
export interface Product {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly transposeA: boolean;
  readonly transposeB: boolean;
  readonly bias: boolean;
  readonly accumulate: boolean;
  /** Elements between the rows of a, b and c. */
  readonly gap: number;
  readonly batch: number;
}

/** `[3,5]·[5,7]ᵀ + bias` */
export const describeProduct = ({ m, n, k, transposeA, transposeB, bias, accumulate, gap, batch }: Product) =>
  `[${m},${k}]${transposeA ? 'ᵀ' : ''}·[${k},${n}]${transposeB ? 'ᵀ' : ''}` +
  `${bias ? ' + bias' : ''}${accumulate ? ' + c' : ''}${gap > 0 ? `, gaps of ${gap}` : ''}${batch > 1 ? ` ×${batch}` : ''}`;

/** Random numbers drawn once: a matrix takes some of them from a place of its own. */
const random = new Random(5);
export const numbers = Float32Array.from({ length: 1 << 20 }, () => random.normal());

/** Runs a product on numbers that depend only on its form. */
export async function runProduct(backend: Backend, product: Product): Promise<Float64Array> {
  const { m, n, k, transposeA, transposeB, gap, batch } = product;
  const c = scope(() => {
    let start = 0;
    const take = (size: number) => {
      start = (start + 7919) % (numbers.length - size);
      return numbers.subarray(start, start + size);
    };
    const matrix = (rows: number, columns: number) => {
      const pitch = columns + gap;
      const whole = tensor(backend, take(batch * rows * pitch), [batch * rows, pitch]);
      return whole.aliased([batch * rows, columns], gap > 1 ? 1 : 0, pitch);
    };
    const a = transposeA ? matrix(k, m) : matrix(m, k);
    const b = transposeB ? matrix(n, k) : matrix(k, n);
    const bias = tensor(backend, take(n), [n]);
    const target = product.accumulate ? matrix(m, n) : empty(backend, [batch * m, n + gap]).aliased([batch * m, n], 0, n + gap);
    const { accumulate } = product;
    gemmInto(a, b, target, { transposeA, transposeB, accumulate, batch, bias: product.bias ? bias : null });
    return target;
  });
  const values = await c.exactData();
  c.dispose();
  return values;
}
