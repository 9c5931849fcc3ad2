import { fold, type GpuDispatch, type GpuKernel, type GpuLaunch, type GpuWork } from '../../tensor/index.js';
import { perElement } from '../../wgsl/per-element.js';
import { matrixFactor } from '../../wgsl/product/factor.js';
import { groupedGpuProduct } from '../../wgsl/product/forms.js';
import { groupEnd } from '../../wgsl/product/product.js';
import { across, perRow, sumOf } from '../../wgsl/rows.js';
import { lanesOf, saturated, vectorOf } from '../../wgsl/vectors.js';

export const gatherRowsGpu: GpuKernel<'x' | 'index' | 'scale' | 'y', 'rows' | 'columns' | 'xPitch' | 'scaleFrom'> = (launch) => {
  const { parameters, dtype, has } = launch;
  const { rows, columns, xPitch, scaleFrom } = parameters;
  const halves = !has('scale') && dtype('x') === 'f16' && dtype('y') === 'f16';
  if (halves && columns % 8 === 0 && xPitch % 8 === 0 && launch.aligned(8, 'x', 'y')) return { dispatches: [gatherHalves(parameters)] };
  const lanes = lanesOf(launch, [columns, xPitch], ['x', 'y']);
  const type = vectorOf(lanes);
  return {
    dispatches: [
      perElement({
        variant: `gather ${has('scale') ? `scaled ${scaleFrom}` : ''}`,
        count: (rows * columns) / lanes,
        buffers: [{ name: 'x', as: vectorOf(lanes, dtype('x') ?? 'f32') }, 'index', ...(has('scale') ? ['scale'] : []), { name: 'y', as: vectorOf(lanes, dtype('y') ?? 'f32') }],
        body: `
          let items = p.columns / ${lanes}u;
          let row = i / items;
          let source = index[p.index_at + row];
          var value = ${type}();
          if (source >= 0) {
            value = ${type}(x[p.x_at + u32(source) * (p.xPitch / ${lanes}u) + i % items])${has('scale') ? ` * scale[p.scale_at + ${scaleFrom === 1 ? 'u32(source)' : 'row'}]` : ''};
          }
          y[p.y_at + i] = ${has('scale') ? `${vectorOf(lanes, dtype('y') ?? 'f32')}(value)` : saturated(lanes, dtype('y') ?? 'f32', 'value')};`,
      }),
    ],
  };
};

/** Rows of halves, as they are, in vectors of 16 bytes. */
const gatherHalves = ({ rows, columns }: { rows: number; columns: number }): GpuDispatch =>
  perElement({
    variant: 'gather halves',
    count: (rows * columns) / 8,
    buffers: [{ name: 'x', as: 'vec4<u32>' }, 'index', { name: 'y', as: 'vec4<u32>' }],
    body: `
          let items = p.columns / 8u;
          let source = index[p.index_at + i / items];
          var value = vec4<u32>();
          if (source >= 0) { value = x[p.x_at + u32(source) * (p.xPitch / 8u) + i % items]; }
          y[p.y_at + i] = value;`,
  });

export const rowDotsGpu: GpuKernel<'x' | 'index' | 'y' | 'd', 'rows' | 'columns' | 'xPitch' | 'yPitch'> = (launch) => {
  const { gpu, parameters, dtype } = launch;
  const { rows, columns, xPitch, yPitch } = parameters;
  const lanes = lanesOf(launch, [columns, xPitch, yPitch], ['x', 'y']);
  const type = vectorOf(lanes);
  return {
    dispatches: [
      perRow({
        variant: 'row dots',
        gpu,
        rows,
        items: columns / lanes,
        buffers: [{ name: 'x', as: vectorOf(lanes, dtype('x') ?? 'f32') }, 'index', { name: 'y', as: vectorOf(lanes, dtype('y') ?? 'f32') }, 'd'],
        reductions: [sumOf('team_sum')],
        values: {},
        body: (pass) => `
          var source = -1;
          if (live) { source = index[p.index_at + row]; }
          var own = ${type}();
          ${pass(`if (source >= 0) { own += ${type}(x[p.x_at + u32(source) * (p.xPitch / ${lanes}u) + c]) * ${type}(y[p.y_at + row * (p.yPitch / ${lanes}u) + c]); }`)}
          let total = team_sum(thread, ${across('own', lanes)});
          if (live && member == 0u) { d[p.d_at + row] = total; }`,
      }),
    ],
  };
};

type Matrices = 'a' | 'b' | 'offsets' | 'c';

/** How a product reads `name`, whose rows are `width` numbers wide and `pitch` apart. */
function factorOf(
  { parameters, dtype, aligned }: GpuLaunch<Matrices, 'half'>,
  name: 'a' | 'b',
  of: { readonly along: 'depth' | 'outer'; readonly outer: string; readonly depth: string; readonly pitch: string; readonly stride: string; readonly extents: readonly number[] },
) {
  const divisible = (by: number) => aligned(by, name) && of.extents.every((extent) => extent % by === 0);
  return (widest: 4 | 8) => {
    const lanes = widest === 8 && dtype(name) === 'f16' && divisible(8) ? 8 : divisible(4) ? 4 : 1;
    return matrixFactor({ name, dtype: dtype(name), ...of, lanes, halves: parameters.half === 1 && widest === 4 });
  };
}

const bothHalves = ({ parameters, dtype }: GpuLaunch<Matrices, 'half'>): boolean => parameters.half === 1 || (dtype('a') === 'f16' && dtype('b') === 'f16');

/** The most rows that each read their group's matrix by themselves. */
const mostFewRows = 16;

export const groupedProductGpu: GpuKernel<Matrices, 'rows' | 'n' | 'k' | 'groups' | 'transposeB' | 'lda' | 'bf16' | 'half'> = (launch) => {
  const { gpu, parameters, dtype } = launch;
  const { rows, n, k, groups, transposeB, lda } = parameters;
  if (rows <= mostFewRows && transposeB === 0) return fewRows(launch);
  const transposed = transposeB === 1;
  return groupedGpuProduct(gpu, {
    ...{ m: rows, n, k, batch: 1, groups: { of: 'rows', count: groups }, halves: bothHalves(launch), parameters },
    a: factorOf(launch, 'a', { along: 'depth', outer: groupEnd, depth: 'p.k', pitch: 'p.lda', stride: '0u', extents: [k, lda] }),
    b: factorOf(launch, 'b', { along: transposed ? 'depth' : 'outer', outer: 'p.n', depth: 'p.k', pitch: transposed ? 'p.k' : 'p.n', stride: '(p.n * p.k)', extents: transposed ? [k] : [n] }),
    result: {
      ...{ name: 'c', dtype: dtype('c'), pitch: 'p.n', stride: '0u', lanes: lanesOf(launch, [n], ['c']), bias: false, accumulate: false },
      // As of `linear`: activations saturate, gradients do not.
      ...{ saturate: !transposed, rows: groupEnd },
    },
  });
};

const threads = 256;
/** Vectors of columns of a workgroup; the other threads share the depth. */
const width = 16;

/** A workgroup goes through some columns of a row's matrix, as they lie in memory. */
function fewRows(launch: GpuLaunch<Matrices, 'rows' | 'n' | 'k' | 'groups' | 'lda' | 'half'>): GpuWork {
  const { parameters, dtype } = launch;
  const { rows, n } = parameters;
  const lanes = lanesOf(launch, [n], ['b', 'c']);
  const [type, b, c] = [vectorOf(lanes), vectorOf(lanes, dtype('b') ?? 'f32'), vectorOf(lanes, dtype('c') ?? 'f32')];
  const strips = Math.ceil(n / lanes / width);
  return {
    dispatches: [
      {
        variant: 'few rows in groups',
        buffers: ['a', { name: 'b', as: b }, 'offsets', { name: 'c', as: c }],
        workgroups: fold(rows * strips),
        numbers: { strips },
        code: () => `
      var<workgroup> shares: array<${type}, ${threads}>;
      @compute @workgroup_size(${threads})
      fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
        let flat = flat_workgroup(id, count);
        let row = flat / p.strips;
        if (row >= p.rows) { return; }
        var group = 0u;
        while (group < p.groups && row >= u32(offsets[p.offsets_at + group + 1u])) { group++; }
        let items = p.n / ${lanes}u;
        let column = flat % p.strips * ${width}u + thread % ${width}u;
        var own = ${type}();
        if (group < p.groups && column < items) {
          for (var k = thread / ${width}u; k < p.k; k += ${threads / width}u) {
            own += f32(a[p.a_at + row * p.lda + k]) * ${type}(b[p.b_at + (group * p.k + k) * items + column]);
          }
        }
        shares[thread] = own;
        workgroupBarrier();
        if (thread < ${width}u && column < items) {
          for (var i = 1u; i < ${threads / width}u; i++) { own += shares[i * ${width}u + thread]; }
          c[p.c_at + row * items + column] = ${saturated(lanes, dtype('c') ?? 'f32', 'own')};
        }
      }`,
      },
    ],
  };
}

export const groupedWeightsGpu: GpuKernel<Matrices, 'rows' | 'm' | 'n' | 'groups' | 'lda' | 'ldb' | 'accumulate' | 'bf16' | 'half'> = (launch) => {
  const { gpu, parameters, dtype } = launch;
  const { rows, m, n, groups, lda, ldb, accumulate } = parameters;
  const factor = (name: 'a' | 'b', outer: 'm' | 'n', pitch: 'lda' | 'ldb', extents: readonly number[]) =>
    factorOf(launch, name, { along: 'outer', outer: `p.${outer}`, depth: groupEnd, pitch: `p.${pitch}`, stride: '0u', extents });
  return groupedGpuProduct(gpu, {
    ...{ m, n, k: rows, batch: groups, groups: { of: 'depth', count: groups }, halves: bothHalves(launch), parameters },
    a: factor('a', 'm', 'lda', [m, lda]),
    b: factor('b', 'n', 'ldb', [n, ldb]),
    result: {
      ...{ name: 'c', dtype: dtype('c'), pitch: 'p.n', stride: '(p.m * p.n)', lanes: lanesOf(launch, [n], ['c']), bias: false },
      ...{ accumulate: accumulate === 1, saturate: false },
    },
  });
};
