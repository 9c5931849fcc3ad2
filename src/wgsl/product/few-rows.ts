/** Products of few rows: the right factor is read once, in order, at the speed of memory. */
import { fold, subgroupSize, type GpuFeatures, type GpuWork } from '../../tensor/index.js';
import { u } from '../vectors.js';
import { range, type Product } from './product.js';
import { storeResult } from './result.js';

/** Rows that share what is read of the right factor, outputs of a thread, vectors asked for before the first is used. */
export interface FewRows {
  readonly rows: 1 | 2 | 4 | 8;
  /** Threads that share an output's depth, a power of two. */
  readonly lanes: number;
  readonly ahead: number;
}

const threads = 128;
/** Outputs of a thread: what `store` takes. */
const outputs = 4;

export function fewRowsProduct(gpu: GpuFeatures, product: Product, form: FewRows): GpuWork {
  const { m, n, batch, a, b, result } = product;
  const store = storeResult(result);
  const rowBlocks = Math.ceil(m / form.rows);
  const tilesN = Math.ceil(n / ((threads / form.lanes) * outputs));
  // Sums over a subgroup need to know which threads are one.
  const size = subgroupSize(gpu) ?? 1;
  const subgroup = size <= form.lanes ? size : 1;
  return {
    dispatches: [
      {
        variant: `few ${Object.values(form).join('x')} ${subgroup} ${a.variant} ${b.variant} ${store.variant}`,
        buffers: [a.binding, b.binding, ...store.buffers],
        workgroups: fold(rowBlocks * tilesN * batch),
        numbers: { rowBlocks, tilesN, batches: batch },
        code: () => fewRowsCode(product, form, subgroup),
      },
    ],
  };
}

function fewRowsCode({ a, b, result }: Product, { rows, lanes, ahead }: FewRows, subgroup: number): string {
  const step = 4 * lanes;
  const sum = (i: number) => `vec4<f32>(${range(outputs).map((r) => `sum_${i}_${r}`).join(', ')})`;
  const parts = lanes / subgroup;
  const add = (v: string) => (subgroup > 1 ? `subgroupAdd(${v})` : v);
  return `
  ${a.four} ${b.four} ${storeResult(result).code}
  ${parts > 1 ? `var<workgroup> parts: array<vec4<f32>, ${(rows * threads) / subgroup}>;` : ''}
  @compute @workgroup_size(${threads})
  fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>,
          @builtin(local_invocation_index) thread: u32) {
    let flat = flat_workgroup(workgroup, workgroups);
    if (flat >= p.rowBlocks * p.tilesN * p.batches) { return; }
    let first_row = flat % p.rowBlocks * ${u(rows)};
    let tile = flat / p.rowBlocks % p.tilesN;
    let batch = flat / p.rowBlocks / p.tilesN;
    let lane = thread % ${u(lanes)};
    let first_column = (tile * ${u(threads / lanes)} + thread / ${u(lanes)}) * ${u(outputs)};
    ${range(rows).flatMap((i) => range(outputs).map((r) => `var sum_${i}_${r} = 0.0;`)).join(' ')}
    for (var depth = lane * 4u; depth < p.k; depth += ${u(step * ahead)}) {
      ${range(ahead).flatMap((s) => range(outputs).map((r) => `let right_${s}_${r} = ${b.binding.name}_four(batch, first_column + ${u(r)}, depth + ${u(s * step)});`)).join('\n      ')}
      ${range(ahead)
        .flatMap((s) =>
          range(rows).map(
            (i) =>
              `{ let left = ${a.binding.name}_four(batch, first_row + ${u(i)}, depth + ${u(s * step)}); ` +
              range(outputs)
                .map((r) => `sum_${i}_${r} += dot(left, right_${s}_${r});`)
                .join(' ') +
              ' }',
          ),
        )
        .join('\n      ')}
    }
    ${range(rows)
      .flatMap((i) => range(outputs).map((r) => (subgroup > 1 ? `sum_${i}_${r} = ${add(`sum_${i}_${r}`)};` : '')))
      .join(' ')}
    ${
      parts === 1
        ? range(rows)
            .map((i) => `if (lane == ${u(i % lanes)}) { store(0u, batch, first_row + ${u(i)}, first_column, ${sum(i)}); }`)
            .join('\n    ')
        : `
    if (thread % ${u(subgroup)} == 0u) {
      ${range(rows).map((i) => `parts[${u((i * threads) / subgroup)} + thread / ${u(subgroup)}] = ${sum(i)};`).join(' ')}
    }
    workgroupBarrier();
    // The parts of row i's outputs, in order.
    for (var i = lane; i < ${u(rows)}; i += ${u(lanes)}) {
      let at = i * ${u(threads / subgroup)} + thread / ${u(lanes)} * ${u(parts)};
      var total = parts[at];
      for (var part = 1u; part < ${u(parts)}; part++) { total += parts[at + part]; }
      store(0u, batch, first_row + i, first_column, total);
    }`
    }
  }`;
}
