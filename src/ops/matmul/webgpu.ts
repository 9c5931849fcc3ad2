import type { GpuKernel } from '../../tensor/index.js';
import { matrixFactor } from '../../wgsl/product/factor.js';
import { gpuProduct } from '../../wgsl/product/forms.js';

type Buffers = 'a' | 'b' | 'bias' | 'c';
type Parameters =
  | ('m' | 'n' | 'k' | 'transposeA' | 'transposeB' | 'lda' | 'ldb' | 'ldc')
  | ('batch' | 'strideA' | 'strideB' | 'strideC' | 'accumulate' | 'bf16' | 'half' | 'saturate');

export const gemmGpu: GpuKernel<Buffers, Parameters> = ({ gpu, parameters, dtype, has, aligned }) => {
  const { m, n, k, batch, transposeA, transposeB, lda, ldb, ldc, strideA, strideB, strideC, accumulate, half, saturate } = parameters;
  const divisible = (by: number, name: Buffers, ...extents: number[]) => aligned(by, name) && extents.every((extent) => extent % by === 0);
  const factor = (name: 'a' | 'b', outer: 'm' | 'n', transposed: boolean, pitch: number, stride: number, widest: 4 | 8) => {
    const along = transposed ? 'outer' : 'depth';
    const extents = [transposed ? parameters[outer] : k, pitch, batch === 1 ? 0 : stride];
    const lanes = widest === 8 && dtype(name) === 'f16' && divisible(8, name, ...extents) ? 8 : divisible(4, name, ...extents) ? 4 : 1;
    return matrixFactor({
      name,
      dtype: dtype(name),
      along,
      outer: `p.${outer}`,
      depth: 'p.k',
      pitch: name === 'a' ? 'p.lda' : 'p.ldb',
      stride: name === 'a' ? 'p.strideA' : 'p.strideB',
      lanes,
      // Vectors of eight are packed as halves, which rounds.
      halves: half === 1 && widest === 4,
    });
  };
  return gpuProduct(gpu, {
    ...{ m, n, k, batch },
    halves: half === 1 || (dtype('a') === 'f16' && dtype('b') === 'f16'),
    a: (widest) => factor('a', 'm', transposeA === 1, lda, strideA, widest),
    b: (widest) => factor('b', 'n', transposeB === 0, ldb, strideB, widest),
    parameters,
    result: {
      name: 'c',
      dtype: dtype('c'),
      pitch: 'p.ldc',
      stride: 'p.strideC',
      lanes: divisible(4, 'c', n, ldc, batch === 1 ? 0 : strideC) ? 4 : 1,
      bias: has('bias'),
      accumulate: accumulate === 1,
      saturate: saturate === 1,
    },
  });
};
