import { packedSizeBytes, panelRows, type GpuKernel, type PackedDType } from '../../../tensor/index.js';
import { perElement } from '../../../wgsl/per-element.js';
import { eightOfFours, matrixFactor, rounded, type Factor } from '../../../wgsl/product/factor.js';
import { gpuProduct, mostFewRows } from '../../../wgsl/product/forms.js';
import type { Result } from '../../../wgsl/product/result.js';
import { rangesOfRows } from '../../../wgsl/ranges.js';
import { fewRowsPacked } from './few-rows.js';
import { packedFour } from './layout.js';

export { packGpu } from './pack.js';

export const unpackGpu =
  (dtype: PackedDType): GpuKernel<'packed' | 'weight', 'rows' | 'columns'> =>
  ({ parameters: { rows, columns } }) => ({
    dispatches: [
      perElement({
        variant: 'unpack',
        count: rows * columns,
        buffers: ['packed', 'weight'],
        functions: packedFour(dtype, 'p.columns').replaceAll('weight[', 'packed[').replaceAll('p.weight_at', 'p.packed_at'),
        body: 'weight[p.weight_at + i] = packed_four(i / p.columns, i % p.columns / 4u * 4u)[i % p.columns % 4u];',
      }),
    ],
  });

export const embeddingGpu =
  (dtype: PackedDType): GpuKernel<'ids' | 'weight' | 'y', 'tokens' | 'vocabulary' | 'columns'> =>
  ({ gpu, parameters: { tokens, vocabulary, columns }, dtype: dtypeOf }) => {
    const panelBytes = packedSizeBytes(dtype, panelRows, columns);
    const panels = rangesOfRows(gpu, { rows: Math.ceil(vocabulary / panelRows), pitch: panelBytes, width: panelBytes, itemBytes: 1 });
    return {
      dispatches: panels.map(({ first, count, part }) =>
        perElement({
          variant: 'embedding',
          count: tokens * columns,
          buffers: ['ids', { name: 'weight', part }, 'y'],
          functions: packedFour(dtype, 'p.columns'),
          numbers: { first: first * panelRows, count: count * panelRows },
          // Negative ids are large ones as u32, and so are ids before the first. A number that is none comes from bits: WGSL has
          // no constant for it.
          body: `
            let wanted = bitcast<u32>(ids[p.ids_at + i / p.columns]);
            let known = wanted < p.vocabulary;
            let row = wanted - p.first;
            if (known && row >= p.count) { return; }
            let column = i % p.columns;
            var value = bitcast<f32>(0x7fc00000u | min(p.columns, 1u));
            if (known) { value = packed_four(row, column / 4u * 4u)[column % 4u]; }
            y[p.y_at + i] = ${dtypeOf('y') ?? 'f32'}(value);`,
        }),
      ),
    };
  };

type LinearParameters = 'm' | 'n' | 'k' | 'lda' | 'ldc' | 'bf16' | 'half' | 'chunk';

export const linearGpu =
  (format: PackedDType): GpuKernel<'a' | 'weight' | 'bias' | 'space' | 'c', LinearParameters> =>
  ({ gpu, parameters, dtype, has, aligned }) => {
    const { m, n, k, lda, ldc, half } = parameters;
    const divisible = (by: number, name: 'a' | 'c', ...extents: number[]) => aligned(by, name) && extents.every((extent) => extent % by === 0);
    const left = (widest: 4 | 8) =>
      matrixFactor({
        name: 'a',
        dtype: dtype('a'),
        along: 'depth',
        outer: 'p.m',
        depth: 'p.k',
        pitch: 'p.lda',
        stride: '0u',
        lanes: widest === 8 && dtype('a') === 'f16' && divisible(8, 'a', k, lda) ? 8 : divisible(4, 'a', k, lda) ? 4 : 1,
        halves: half === 1 && widest === 4,
      });
    const result: Result = {
      name: 'c',
      dtype: dtype('c'),
      pitch: 'p.ldc',
      stride: '0u',
      lanes: divisible(4, 'c', n, ldc) ? 4 : 1,
      bias: has('bias'),
      accumulate: false,
      saturate: true,
    };
    if (m <= mostFewRows && half === 0) return { dispatches: m * n === 0 ? [] : [fewRowsPacked(format, { m, n, k, a: left(4), result })] };
    return gpuProduct(gpu, {
      ...{ m, n, k, batch: 1, result },
      halves: half === 1,
      a: left,
      b: (widest) => packedFactor(format, half === 1 && widest === 4),
      parameters,
    });
  };

/** Neighbouring outputs lie side by side, though what a word holds runs along the depth. */
function packedFactor(dtype: PackedDType, halves: boolean): Factor {
  const four = `${packedFour(dtype, 'p.k')}
  fn weight_four(batch: u32, outer: u32, depth: u32) -> vec4<f32> {
    if (outer >= p.n || depth >= p.k) { return vec4<f32>(); }
    let v = packed_four(outer, depth);
    return ${halves ? rounded('v') : 'v'};
  }`;
  return {
    binding: { name: 'weight' },
    along: 'depth',
    threadsAlong: 'outer',
    variant: `packed${halves ? 'h' : ''}`,
    four,
    whole: null,
    eight: four + eightOfFours('weight', 'depth'),
  };
}
