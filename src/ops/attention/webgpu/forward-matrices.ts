/** The forward pass on matrix units. */
import type { GpuLaunch, GpuWork } from '../../../tensor/index.js';
import { repeat } from '../../../wgsl/vectors.js';
import type { ForwardBuffers, ForwardParameters } from './forward.js';
import { lowest } from './forward-rows.js';
import * as m from './matrices.js';
import { placesCode, placesOf } from './places.js';

/** How much, as a power of two, a row's largest score may grow before its sums are scaled down: that takes them through workgroup memory. */
const mostGrowth = 8;

/** Whether matrix units can do it. */
export const canUseMatrices = (launch: GpuLaunch<ForwardBuffers, ForwardParameters>): boolean => {
  const { qPitch, kPitch, vPitch } = launch.parameters;
  return m.haveMatrices(launch, ['q', 'k', 'v', 'y'], [qPitch, kPitch, vPitch]);
};

export function forwardByMatrices(launch: GpuLaunch<ForwardBuffers, ForwardParameters>, geometry = m.matrixGeometry(launch.parameters.size)): GpuWork {
  const { parameters, has, dtype } = launch;
  const { batch, length, heads, size, pagesPerRow, scale } = parameters;
  // The largest score is sought before the factor is applied, which then costs nothing; a factor that is not positive comes first.
  const late = scale > 0;
  // A strip's row has a score for each key of a tile.
  const { sharers, rows, width } = geometry;
  const q = m.eights('q', dtype('q'), 'p.qPitch');
  const k = m.eights('k', dtype('k'), 'p.kPitch');
  const v = m.eights('v', dtype('v'), 'p.vPitch');
  const y = m.eights('y', dtype('y'), 'p.size', true);
  const fours = width / 4 / sharers;
  const own = (c: number) => `sharer * ${fours}u + ${c}u`;
  const fold = (name: string, combine: (a: string, b: string) => string) =>
    sharers === 1 ? '' : `${name} = ${combine(name, `subgroupShuffleXor(${name}, ${rows}u)`)};`;
  const keyRow = (key: string) => `let j = ${key} + r; let present = j >= tile_from && j <= tile_own; let at = key_row(b, min(j, tile_own), head);`;
  const weights = repeat(fours / 2, (c) => `strips[strip + sharer * ${fours / 2}u + ${c}u] = ${m.packFours(`s_${2 * c}`, `s_${2 * c + 1}`)};`);
  return {
    dispatches: m.matrixDispatches({
      geometry,
      variant: late ? 'forward' : 'forward, factor first',
      groups: batch * heads,
      rows: length,
      work: 2 * m.rowsOf(geometry) * size * Math.max(length, pagesPerRow * 64),
      lastFirst: true,
      buffers: [q.binding, k.binding, v.binding, ...placesOf(launch), y.binding, ...(has('logSums') ? ['logSums'] : [])],
      functions: `${placesCode(launch)} ${q.read} ${k.read} ${v.read} ${y.write} var<workgroup> grown: u32;`,
      tiles: { keys: width },
      body: `
    ${matrixQuery(geometry)}
    ${m.loadRows(geometry, 'q', queryAt(geometry))}
    let factor = p.scale * ${Math.LOG2E};
    ${m.eachHigh(geometry, (i) => m.eachDeep(geometry, (s) => m.zeroSums(`y_${i}_${s}`)))}
    var largest = ${lowest};
    var total = 0.0;
    let start = tile_from - tile_from % ${width}u;
    ${m.declareNext(geometry, width, 'k')} ${m.declareNext(geometry, width, 'v')}
    ${m.fetchTile(geometry, width, ['k', 'v'], keyRow('start'))}
    for (var key = start; key <= tile_own; key += ${width}u) {
      workgroupBarrier();
      ${m.stageTile(geometry, width, 'k', 'keys')}
      if (thread == 0u) { grown = 0u; }
      workgroupBarrier();
      ${m.fetchTile(geometry, width, ['k'], keyRow(`(key + ${width}u)`))}
      {
        ${m.eachHigh(geometry, (i) => repeat(width / m.side, (n) => m.zeroSums(`score_${i}_${n}`)))}
        ${m.eachDeep(geometry, (s) =>
          repeat(
            width / m.side,
            (n) => `{ let right = ${m.transposedOf(geometry, 'keys', n, s)};
          ${m.eachHigh(geometry, (i) => `score_${i}_${n} = subgroupMatrixMultiplyAccumulate(q_${i}_${s}, right, score_${i}_${n});`)} }`,
          ),
        )}
        ${m.eachHigh(geometry, (i) => repeat(width / m.side, (n) => m.storeInStrip(geometry, `score_${i}_${n}`, i, 4 * n)))}
      }
      workgroupBarrier();
      ${m.stageTile(geometry, width, 'v', 'keys')}
      ${m.fetchTile(geometry, width, ['v'], keyRow(`(key + ${width}u)`))}
      ${repeat(fours, (c) => `var s_${c} = ${late ? '' : 'factor * '}bitcast<vec4<f32>>(strips[strip + ${own(c)}]);`)}
      // What some row does not see.
      if (key + ${width - 1}u > tile_first_own || key < tile_last_from) {
        ${repeat(
          fours,
          (c) => `{ let j = vec4<u32>(key + 4u * (${own(c)})) + vec4<u32>(0u, 1u, 2u, 3u);
          s_${c} = select(vec4<f32>(${lowest}), s_${c}, (j >= vec4<u32>(earliest)) & (j <= vec4<u32>(own))); }`,
        )}
      }
      var most = ${Array.from({ length: fours }, (_, c) => `s_${c}`).reduce((a, b) => `max(${a}, ${b})`)};
      var largest_here = max(max(most.x, most.y), max(most.z, most.w));
      ${fold('largest_here', (a, b) => `max(${a}, ${b})`)}
      ${late ? `largest_here = select(factor * largest_here, ${lowest}, largest_here == ${lowest});` : ''}
      var shrink = 1.0;
      if (largest_here > largest + ${mostGrowth}.0) {
        // Nothing has been added up before the first key that a row sees.
        if (largest > ${lowest}) { shrink = exp2(largest - largest_here); grown = 1u; }
        largest = largest_here;
      }
      // Of a row that has seen nothing yet all scores are the lowest: they must not become 1.
      let base = select(largest, 0.0, largest == ${lowest});
      ${repeat(fours, (c) => `s_${c} = exp2(${late ? 'factor * ' : ''}s_${c} - base);`)}
      let sums = ${Array.from({ length: fours }, (_, c) => `s_${c}`).join(' + ')};
      total = total * shrink + dot(sums, vec4<f32>(1.0));
      ${sharers === 1 ? '' : 'workgroupBarrier();'}
      ${weights}
      if (workgroupUniformLoad(&grown) != 0u) {
        ${m.eachDeep(
          geometry,
          (s) => `
        ${m.eachHigh(geometry, (i) => m.storeInStrip(geometry, `y_${i}_${s}`, i, 0))}
        workgroupBarrier();
        ${repeat(4 / sharers, (c) => `{ let at = strip + sharer * ${4 / sharers}u + ${c}u; strips[at] = bitcast<vec4<u32>>(shrink * bitcast<vec4<f32>>(strips[at])); }`)}
        workgroupBarrier();
        ${m.eachHigh(geometry, (i) => `y_${i}_${s} = ${m.sumsOfStrip(geometry, i, 0)};`)}
        workgroupBarrier();`,
        )}
        ${weights}
        workgroupBarrier();
      }
      ${repeat(
        width / m.side,
        (n) => `{
        ${m.eachHigh(geometry, (i) => `let left_${i} = ${m.leftOfStrip(geometry, i, 2 * n)};`)}
        ${m.eachDeep(geometry, (s) => `{ let right = ${m.asItIs(geometry, 'keys', n, s)};
          ${m.eachHigh(geometry, (i) => `y_${i}_${s} = subgroupMatrixMultiplyAccumulate(left_${i}, right, y_${i}_${s});`)} }`)}
      }`,
      )}
    }
    if (${m.never('y')}) {
      ${m.eachHigh(geometry, (i) => m.eachDeep(geometry, (s) => `subgroupMatrixStore<row_major>(&y, ${i + s}u, y_${i}_${s}, 8u);`))}
      return;
    }
    ${fold('total', (a, b) => `${a} + ${b}`)}
    let over = 1.0 / total;
    ${m.storeRows(geometry, 'y', 'over', 'y_put(row, c, first, second);')}
    ${has('logSums') ? `if (live && sharer == 0u) { logSums[p.logSums_at + (b * p.heads + h) * p.length + t] = largest * ${Math.LN2} + log(total); }` : ''}`,
    }),
  };
}

/** WGSL of `at` and `present` for row r of a workgroup of queries. */
export const queryAt = (geometry: m.MatrixGeometry): string =>
  `let of_row = tile * ${m.rowsOf(geometry)}u + r; let present = of_row < p.length; let at = (b * p.length + min(of_row, p.length - 1u)) * p.heads + h;`;

/**
 * Which query an invocation has. Declares b, h, head (of keys), t, live, own, earliest, row, and of the workgroup's queries the last position
 * and the first that one sees (tile_own, tile_from) and the least and the greatest of what all see (tile_first_own, tile_last_from).
 */
export const matrixQuery = (geometry: m.MatrixGeometry): string => `
    let b = group / p.heads;
    let h = group % p.heads;
    let head = h / (p.heads / p.kvHeads);
    let tile_first = tile * ${m.rowsOf(geometry)}u;
    let tile_last = min(tile_first + ${m.rowsOf(geometry) - 1}u, p.length - 1u);
    let live = tile_first + row_in_tile < p.length;
    let t = min(tile_first + row_in_tile, p.length - 1u);
    let row = (b * p.length + t) * p.heads + h;
    let before_pass = positions_before(b);
    let own = before_pass + t;
    let earliest = first_seen(b, t, own);
    let tile_own = before_pass + tile_last;
    let tile_first_own = before_pass + tile_first;
    let tile_from = first_seen(b, tile_first, tile_first_own);
    let tile_last_from = first_seen(b, tile_last, tile_own);`;
