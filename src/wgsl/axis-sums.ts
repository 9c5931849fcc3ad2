/** Sums over an axis, in an order that is fixed. */
import { fold, type GpuBinding, type GpuDispatch, type GpuFeatures } from '../tensor/index.js';
import { enough, perRow, sumOf } from './rows.js';

/** Rows that one invocation adds up, at most. */
const longestSum = 1024;

/**
 * Dispatches that sum a [outer, length, inner] array over its middle axis, `partial` (scratch, f32) between them where one
 * is not enough.
 */
export function axisSums(options: {
  gpu: GpuFeatures;
  variant: string;
  outer: number;
  length: number;
  inner: number;
  /** Buffers of `load`, and of `store`. */
  from: readonly (string | GpuBinding)[];
  to: readonly (string | GpuBinding)[];
  /** The f32 number at `at` of the array. */
  load: string;
  /** Stores the f32 `sum` of element `i` of [outer, inner]. */
  store: string;
}): { dispatches: readonly GpuDispatch[]; partials: number } {
  const { gpu, variant, outer, length, inner, from, to, load, store } = options;
  const columns = outer * inner;
  // A row of numbers side by side is a team's; columns side by side are an invocation's each.
  const rowwise = inner === 1;
  const wanted = rowwise ? Math.ceil(length / 2 ** 14) : Math.max(Math.ceil(length / longestSum), Math.ceil(enough / Math.max(1, columns)));
  const segments = Math.max(1, Math.min(wanted, rowwise ? wanted : Math.ceil(length / 32)));
  const segmentLength = Math.ceil(length / segments);
  const level = (
    name: string,
    [n, part]: readonly [length: number, part: number],
    [parts, buffers]: readonly [parts: number, buffers: readonly (string | GpuBinding)[]],
    source: string,
    target: string,
  ): GpuDispatch => {
    const numbers = { whole: n, part, parts, inner_: inner };
    // Element i of [outer, parts, inner]: position `at` of its first number, `left` numbers to add.
    const place = (i: string) => `
      let column = ${i} % p.inner_;
      let first = (${i} / p.inner_) % p.parts * p.part;
      let o = ${i} / p.inner_ / p.parts;
      let left = select(min(p.part, p.whole - first), 0u, first >= p.whole);`;
    if (rowwise) {
      return perRow({
        variant: `${variant}-${name}`,
        gpu,
        rows: outer * parts,
        items: part,
        buffers,
        reductions: [sumOf('team_sum')],
        values: {},
        numbers,
        body: (pass) => `
          let i = row;
          ${place('row')}
          var own = 0.0;
          ${pass(`if (c < left) { let at = o * p.whole + first + c; own += ${source}; }`)}
          let sum = team_sum(thread, own);
          if (live && member == 0u) { ${target} }`,
      });
    }
    return {
      variant: `${variant}-${name}-columns`,
      buffers,
      numbers: { ...numbers, elements: columns * parts },
      workgroups: columns * parts === 0 ? [0] : fold(Math.ceil((columns * parts) / 64)),
      code: () => `
        @compute @workgroup_size(64)
        fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                @builtin(local_invocation_index) thread: u32) {
          let i = flat_workgroup(id, count) * 64u + thread;
          if (i >= p.elements) { return; }
          ${place('i')}
          var sum = 0.0;
          for (var l = 0u; l < left; l++) { let at = (o * p.whole + first + l) * p.inner_ + column; sum += ${source}; }
          ${target}
        }`,
    };
  };
  if (segments === 1) return { dispatches: [level('whole', [length, length], [1, [...from, ...to]], load, store)], partials: 1 };
  return {
    dispatches: [
      level('parts', [length, segmentLength], [segments, [...from, 'partial']], load, 'partial[p.partial_at + i] = sum;'),
      level('total', [segments, segments], [1, [{ name: 'partial', access: 'read' }, ...to]], 'partial[p.partial_at + at]', store),
    ],
    partials: columns * segments,
  };
}
