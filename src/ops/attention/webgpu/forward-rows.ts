/** The forward pass on any GPU: queries in registers, keys and values in tiles. */
import type { GpuLaunch, GpuWork } from '../../../tensor/index.js';
import { saturated } from '../../../wgsl/vectors.js';
import type { ForwardBuffers, ForwardParameters } from './forward.js';
import { headRows, placesCode, placesOf } from './places.js';
import { addRows, eachOwn, fillTiles, products, rowDispatches, rowGeometry, vectorAt } from './rows.js';

/** What stands for −∞, so that a difference of two is a number. */
export const lowest = '-3.0e38';

export function forwardByRows(launch: GpuLaunch<ForwardBuffers, ForwardParameters>): GpuWork {
  const { gpu, parameters, has, dtype } = launch;
  const { batch, length, heads, kvHeads, size, pagesPerRow } = parameters;
  const geometry = rowGeometry(size);
  const q = headRows(launch, 'q', ['p.qPitch', parameters.qPitch]);
  const k = headRows(launch, 'k', ['p.kPitch', parameters.kPitch]);
  const v = headRows(launch, 'v', ['p.vPitch', parameters.vPitch]);
  const y = headRows(launch, 'y', ['p.size', size]);
  const seen = Math.max(length, pagesPerRow * 64);
  return {
    dispatches: rowDispatches({
      gpu,
      geometry,
      variant: `rows ${size}`,
      groups: batch * kvHeads,
      rows: length * (heads / kvHeads),
      work: 2 * geometry.rows * size * seen,
      lastFirst: true,
      buffers: [q.binding, k.binding, v.binding, ...placesOf(launch), y.binding, ...(has('logSums') ? ['logSums'] : [])],
      functions: `${placesCode(launch)} ${q.read} ${k.read} ${v.read} ${y.write}`,
      tiles: ['keys', 'values'],
      body: `
    ${queryRow(geometry.rows)}
    let factor = p.scale * ${Math.LOG2E};
    ${eachOwn(geometry, (i) => `let q_${i} = factor * q_four(row, ${vectorAt(geometry, i)}); var y_${i} = vec4<f32>();`)}
    var largest = ${lowest};
    var total = 0.0;
    for (var key = tile_from - tile_from % ${geometry.tile}u; key <= tile_own; key += ${geometry.tile}u) {
      workgroupBarrier();
      ${fillTiles(geometry, { keys: 'k_four(key_at, c)', values: 'v_four(key_at, c)' }, 'let j = key + r; let key_at = key_row(b, min(j, tile_own), head);', 'j >= tile_from && j <= tile_own')}
      workgroupBarrier();
      for (var k = 0u; k < ${geometry.tile}u; k += 4u) {
        let j = vec4<u32>(key + k) + vec4<u32>(0u, 1u, 2u, 3u);
        let seen = (j >= vec4<u32>(earliest)) & (j <= vec4<u32>(own));
        ${products(geometry, 'scores', 'q', 'keys', 'k')}
        scores = select(vec4<f32>(${lowest}), scores, seen);
        let before = largest;
        largest = max(largest, max(max(scores.x, scores.y), max(scores.z, scores.w)));
        let weights = select(vec4<f32>(), exp2(scores - largest), seen);
        if (largest > before) {
          let shrink = exp2(before - largest);
          total *= shrink;
          ${eachOwn(geometry, (i) => `y_${i} *= shrink;`)}
        }
        total += dot(weights, vec4<f32>(1.0));
        ${addRows(geometry, 'weights', 'k', [{ to: 'y', weights: 'weights', tile: 'values' }])}
      }
    }
    if (!live) { return; }
    ${eachOwn(geometry, (i) => `{ let of_row = y_${i} / total; y_put(row, ${vectorAt(geometry, i)}, ${dtype('y') === 'f16' ? saturatedValue('of_row') : 'of_row'}); }`)}
    ${has('logSums') ? `if (share == 0u) { logSums[p.logSums_at + (b * p.heads + h) * p.length + t] = largest * ${Math.LN2} + log(total); }` : ''}`,
    }),
  };
}

const saturatedValue = (value: string): string => `vec4<f32>(${saturated(4, 'f16', value)})`;

/**
 * Which query an invocation has: those of the heads that share a head of keys lie beside each other. Declares b, head (of keys), h, t, own
 * (its position), earliest (the first it sees), row, live, and tile_own and tile_from, the last and the first that the workgroup's queries see.
 */
export const queryRow = (rows: number): string => `
    let sharing = p.heads / p.kvHeads;
    let b = group / p.kvHeads;
    let head = group % p.kvHeads;
    let some = tile * ${rows}u + row_in_tile;
    let live = some < p.length * sharing;
    let t = min(some / sharing, p.length - 1u);
    let h = head * sharing + some % sharing;
    let row = (b * p.length + t) * p.heads + h;
    let before_pass = positions_before(b);
    let own = before_pass + t;
    let earliest = first_seen(b, t, own);
    let tile_first = tile * ${rows}u / sharing;
    let tile_own = before_pass + min((tile * ${rows}u + ${rows - 1}u) / sharing, p.length - 1u);
    let tile_from = first_seen(b, tile_first, before_pass + tile_first);`;
