import { itemSize, type GpuDispatch, type GpuKernel, type GpuLaunch, type GpuWork } from '../../tensor/index.js';
import { perElement } from '../../wgsl/per-element.js';
import { rangesOfRows } from '../../wgsl/ranges.js';
import { perRow } from '../../wgsl/rows.js';
import { lanesOf, vectorOf } from '../../wgsl/vectors.js';

export const embeddingGpu: GpuKernel<'ids' | 'weight' | 'y', 'tokens' | 'vocabulary' | 'columns' | 'weightPitch'> = (launch) => {
  const { gpu, parameters, dtype } = launch;
  const { tokens, vocabulary, columns, weightPitch } = parameters;
  const lanes = lanesOf(launch, [columns, weightPitch], ['weight', 'y']);
  const y = vectorOf(lanes, dtype('y') ?? 'f32');
  const itemBytes = itemSize[dtype('weight') ?? 'f32'];
  const ranges = rangesOfRows(gpu, { rows: vocabulary, pitch: weightPitch, width: columns, itemBytes });
  return {
    dispatches: ranges.map(({ first, count, part }) =>
      perElement({
        variant: `rows/${lanes}`,
        count: (tokens * columns) / lanes,
        buffers: ['ids', { name: 'weight', as: vectorOf(lanes, dtype('weight') ?? 'f32'), part }, { name: 'y', as: y }],
        // WGSL has no constant for NaN.
        numbers: { nan_bits: 0x7fc00000, first, count },
        body: `
          let items = p.columns / ${lanes}u;
          let wanted = bitcast<u32>(ids[p.ids_at + i / items]);
          let known = wanted < p.vocabulary;
          // Ids before the first are large numbers here.
          let row = wanted - p.first;
          if (known && row >= p.count) { return; }
          var value = ${vectorOf(lanes)}(bitcast<f32>(p.nan_bits));
          if (known) { value = ${vectorOf(lanes)}(weight[p.weight_at + row * (p.weightPitch / ${lanes}u) + i % items]); }
          y[p.y_at + i] = ${y}(value);`,
      }),
    ),
  };
};

/** Tokens, in the order of their ids, that one invocation adds up. */
const block = 32;

type Backward = GpuLaunch<'ids' | 'dy' | 'dWeight', 'tokens' | 'vocabulary' | 'columns' | 'dyPitch' | 'accumulate'>;

/**
 * Tokens are sorted by id, and within an id by place, so that the sums repeat to the bit. Then blocks of slots are summed id by id,
 * and ids that lie in several blocks from the blocks' sums: frequent ids are spread over many invocations.
 */
export const embeddingBackwardGpu = (launch: Backward): GpuWork => {
  const { tokens, vocabulary, columns } = launch.parameters;
  const blocks = Math.ceil(tokens / block);
  // One more than there are, for the end of the last, in whole vectors.
  const ids = 4 * Math.ceil((vocabulary + 1) / 4);
  return {
    scratch: {
      counts: { dtype: 'i32', size: ids },
      starts: { dtype: 'i32', size: ids },
      unordered: { dtype: 'i32', size: Math.max(1, tokens) },
      ordered: { dtype: 'i32', size: Math.max(1, tokens) },
      edges: { dtype: 'f32', size: Math.max(1, blocks) * 2 * columns },
    },
    dispatches: [...sortTokens(launch, ids), ...sumRows(launch, blocks)],
  };
};

const read = (name: string) => ({ name, as: 'u32', access: 'read' as const });

/**
 * `ordered`, the tokens by id, and `starts`, the slots where those of each id begin: counted by id, given a range of slots each, put
 * there as they come, and ranked within the range.
 */
function sortTokens({ gpu, parameters: { tokens } }: Backward, ids: number): GpuDispatch[] {
  const counts = { name: 'counts', as: 'atomic<u32>' };
  return [
    perElement({ variant: 'clear', count: ids, buffers: [counts], body: 'atomicStore(&counts[p.counts_at + i], 0u);' }),
    perElement({
      variant: 'count',
      count: tokens,
      buffers: ['ids', counts],
      body: `
        let v = ids[p.ids_at + i];
        if (v >= 0 && u32(v) < p.vocabulary) { atomicAdd(&counts[p.counts_at + u32(v)], 1u); }`,
    }),
    countsToStarts(gpu.workgroupSize, ids / 4),
    perElement({
      variant: 'place',
      count: tokens,
      buffers: ['ids', counts, read('starts'), { name: 'unordered', as: 'u32' }],
      body: `
        let v = ids[p.ids_at + i];
        if (v >= 0 && u32(v) < p.vocabulary) {
          let slot = starts[p.starts_at + u32(v)] + atomicSub(&counts[p.counts_at + u32(v)], 1u) - 1u;
          unordered[p.unordered_at + slot] = i;
        }`,
    }),
    // A team of invocations a token: an id that all tokens have is the worst case.
    perRow({
      variant: 'rank',
      gpu,
      rows: tokens,
      items: 64,
      buffers: ['ids', read('starts'), read('unordered'), { name: 'ordered', as: 'u32' }],
      reductions: [{ name: 'team_sum', type: 'u32', combine: 'a + b' }],
      values: {},
      body: () => `
        var rank = 0u;
        var first = 0u;
        var placed = live && row < starts[p.starts_at + p.vocabulary];
        var place = 0u;
        if (placed) {
          place = unordered[p.unordered_at + row];
          let v = u32(ids[p.ids_at + place]);
          first = starts[p.starts_at + v];
          for (var slot = first + member; slot < starts[p.starts_at + v + 1u]; slot += team) {
            if (unordered[p.unordered_at + slot] < place) { rank += 1u; }
          }
        }
        let all = team_sum(thread, rank);
        if (placed && member == 0u) { ordered[p.ordered_at + first + all] = place; }`,
    }),
  ];
}

/** The rows of dWeight, each a sum over its id's tokens: of whole ids within a block of slots, then of those in several blocks. */
function sumRows(launch: Backward, blocks: number): GpuDispatch[] {
  const { gpu, parameters, dtype } = launch;
  const { vocabulary, columns, dyPitch, accumulate } = parameters;
  const lanes = lanesOf(launch, [columns, dyPitch], ['dy', 'dWeight']);
  const items = columns / lanes;
  const v = vectorOf(lanes);
  const dy = { name: 'dy', as: vectorOf(lanes, dtype('dy') ?? 'f32') };
  const dWeight = { name: 'dWeight', as: vectorOf(lanes, dtype('dWeight') ?? 'f32') };
  const itemBytes = itemSize[dtype('dWeight') ?? 'f32'];
  const ranges = rangesOfRows(gpu, { rows: vocabulary, pitch: columns, width: columns, itemBytes });
  const add = (place: string, sum: string) => {
    const before = accumulate === 0 ? '' : `${v}(dWeight[${place}]) + `;
    return `dWeight[${place}] = ${dWeight.as}(${before}${sum});`;
  };
  return [
    ...ranges.map(({ first, count, part }) =>
      perElement({
        variant: `sum/${lanes}/${accumulate}`,
        count: blocks * items,
        buffers: ['ids', read('starts'), read('ordered'), dy, { ...dWeight, part }, { name: 'edges', as: v }],
        numbers: { items, firstId: first, idCount: count },
        body: `
          let column = i % p.items;
          let own = i / p.items;
          let begin = own * ${block}u;
          let end = min(begin + ${block}u, starts[p.starts_at + p.vocabulary]);
          var slot = begin;
          while (slot < end) {
            let v = u32(ids[p.ids_at + ordered[p.ordered_at + slot]]);
            let first = starts[p.starts_at + v];
            let after = starts[p.starts_at + v + 1u];
            let last = min(end, after);
            var sum = ${v}(0.0);
            for (; slot < last; slot++) {
              sum += ${v}(dy[p.dy_at + ordered[p.ordered_at + slot] * (p.dyPitch / ${lanes}u) + column]);
            }
            if (first >= begin && after <= begin + ${block}u) {
              if (v - p.firstId < p.idCount) { ${add('p.dWeight_at + (v - p.firstId) * p.items + column', 'sum')} }
            } else {
              // The first edge is of the id that the block begins with, the second of the one it ends with.
              edges[p.edges_at + (2u * own + select(0u, 1u, first > begin)) * p.items + column] = sum;
            }
          }`,
      }),
    ),
    ...ranges.map(({ first, count, part }) =>
      perElement({
        variant: `join/${lanes}/${accumulate}`,
        count: count * items,
        buffers: [read('starts'), { name: 'edges', as: v, access: 'read' }, { ...dWeight, part }],
        numbers: { items, firstId: first },
        body: `
          let first = starts[p.starts_at + p.firstId + i / p.items];
          let after = starts[p.starts_at + p.firstId + i / p.items + 1u];
          if (first == after) {
            ${accumulate === 0 ? `dWeight[p.dWeight_at + i] = ${dWeight.as}(0.0);` : ''}
            return;
          }
          let from_block = first / ${block}u;
          let to_block = (after - 1u) / ${block}u;
          if (from_block == to_block) { return; }
          var sum = ${v}(0.0);
          for (var b = from_block; b <= to_block; b++) {
            sum += edges[p.edges_at + (2u * b + select(0u, 1u, first > b * ${block}u)) * p.items + i % p.items];
          }
          ${add('p.dWeight_at + i', 'sum')}`,
      }),
    ),
  ];
}

/** starts[v] = Σ counts before v, by one workgroup: a run of ids an invocation, four at a time, then the runs. */
function countsToStarts(most: number, quads: number) {
  const threads = Math.min(1024, 2 ** Math.floor(Math.log2(most)));
  return {
    variant: `starts/${threads}`,
    buffers: [
      { name: 'counts', as: 'vec4<u32>', access: 'read' as const },
      { name: 'starts', as: 'vec4<u32>' },
    ],
    workgroups: [1] as const,
    numbers: { quads },
    code: () => `
      var<workgroup> ends: array<u32, ${threads}>;
      @compute @workgroup_size(${threads})
      fn main(@builtin(local_invocation_index) thread: u32) {
        let run = (p.quads + ${threads - 1}u) / ${threads}u;
        let first = min(thread * run, p.quads);
        let after = min(first + run, p.quads);
        var sums = vec4<u32>(0u);
        for (var q = first; q < after; q++) { sums += counts[p.counts_at + q]; }
        let sum = sums.x + sums.y + sums.z + sums.w;
        ends[thread] = sum;
        workgroupBarrier();
        for (var reach = 1u; reach < ${threads}u; reach *= 2u) {
          let before = select(0u, ends[max(thread, reach) - reach], thread >= reach);
          workgroupBarrier();
          ends[thread] += before;
          workgroupBarrier();
        }
        var start = ends[thread] - sum;
        for (var q = first; q < after; q++) {
          let own = counts[p.counts_at + q];
          starts[p.starts_at + q] = start + vec4<u32>(0u, own.x, own.x + own.y, own.x + own.y + own.z);
          start += own.x + own.y + own.z + own.w;
        }
      }`,
  };
}
