import { fold, type GpuBinding, type GpuDispatch } from '../tensor/index.js';

const columnsTogether = 32;
const rowsTogether = 8;

/**
 * A dispatch that adds up the columns of an f32 matrix of parts, always in the same order.
 * @param store WGSL statements that put away `total`, the sum of `column`
 */
export function columnSums(options: {
  variant: string;
  /** The buffer with the parts, [rows, columns] f32 from its element `first` on. */
  parts: string;
  first?: number;
  rows: number;
  columns: number;
  buffers: readonly (string | GpuBinding)[];
  store: string;
  numbers?: Readonly<Record<string, number>>;
}): GpuDispatch {
  const { variant, parts, first = 0, rows, columns, buffers, store, numbers = {} } = options;
  return {
    variant,
    buffers: [{ name: parts, access: 'read' }, ...buffers],
    numbers: { ...numbers, sumsFirst: first, sumsRows: rows, sumsColumns: columns },
    workgroups: columns === 0 ? [0] : fold(Math.ceil(columns / columnsTogether)),
    code: () => `
      var<workgroup> shares: array<f32, ${columnsTogether * rowsTogether}>;
      @compute @workgroup_size(${columnsTogether * rowsTogether})
      fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
              @builtin(local_invocation_index) thread: u32) {
        let column = flat_workgroup(id, count) * ${columnsTogether} + thread % ${columnsTogether};
        var share = 0.0;
        if (column < p.sumsColumns) {
          for (var row = thread / ${columnsTogether}; row < p.sumsRows; row += ${rowsTogether}) {
            share += ${parts}[p.${parts}_at + p.sumsFirst + row * p.sumsColumns + column];
          }
        }
        shares[thread] = share;
        workgroupBarrier();
        if (thread < ${columnsTogether} && column < p.sumsColumns) {
          var total = shares[thread];
          for (var i = 1u; i < ${rowsTogether}; i++) { total += shares[i * ${columnsTogether} + thread]; }
          ${store}
        }
      }`,
  };
}
