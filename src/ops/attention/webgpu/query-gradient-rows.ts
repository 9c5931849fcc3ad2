/** The gradient of queries on any GPU: queries in registers, keys and values in tiles. */
import type { GpuDispatch, GpuLaunch } from '../../../tensor/index.js';
import type { BackwardBuffers, BackwardParameters } from './backward.js';
import { queryRow } from './forward-rows.js';
import { headRows, placesCode, placesOf } from './places.js';
import { addRows, eachOwn, fillTiles, products, rowDispatches, rowGeometry, vectorAt } from './rows.js';

export function queryGradientByRows(launch: GpuLaunch<BackwardBuffers, BackwardParameters>): GpuDispatch[] {
  const { gpu, parameters } = launch;
  const { batch, length, heads, kvHeads, size, pagesPerRow } = parameters;
  const geometry = rowGeometry(size);
  const q = headRows(launch, 'q', ['p.qPitch', parameters.qPitch]);
  const k = headRows(launch, 'k', ['p.kPitch', parameters.kPitch]);
  const v = headRows(launch, 'v', ['p.vPitch', parameters.vPitch]);
  const dy = headRows(launch, 'dy', ['p.dyPitch', parameters.dyPitch]);
  const dq = headRows(launch, 'dq', ['p.size', size]);
  const seen = Math.max(length, pagesPerRow * 64);
  return rowDispatches({
    gpu,
    geometry,
    variant: `query gradient ${size}`,
    groups: batch * kvHeads,
    rows: length * (heads / kvHeads),
    work: 3 * geometry.rows * size * seen,
    lastFirst: true,
    buffers: [q.binding, k.binding, v.binding, ...placesOf(launch), dy.binding, { name: 'statistics', access: 'read' }, dq.binding],
    functions: `${placesCode(launch)} ${q.read} ${k.read} ${v.read} ${dy.read} ${dq.write}`,
    tiles: ['keys', 'values'],
    body: `
    ${queryRow(geometry.rows)}
    let factor = p.scale * ${Math.LOG2E};
    ${eachOwn(geometry, (i) => `let q_${i} = factor * q_four(row, ${vectorAt(geometry, i)}); let dy_${i} = dy_four(row, ${vectorAt(geometry, i)}); var dq_${i} = vec4<f32>();`)}
    let place = p.statistics_at + 2u * ((b * p.heads + h) * p.length + t);
    let log_sum = statistics[place];
    let delta = statistics[place + 1u];
    for (var key = tile_from - tile_from % ${geometry.tile}u; key <= tile_own; key += ${geometry.tile}u) {
      workgroupBarrier();
      ${fillTiles(geometry, { keys: 'k_four(key_at, c)', values: 'v_four(key_at, c)' }, 'let j = key + r; let key_at = key_row(b, min(j, tile_own), head);', 'j >= tile_from && j <= tile_own')}
      workgroupBarrier();
      for (var k = 0u; k < ${geometry.tile}u; k += 4u) {
        let j = vec4<u32>(key + k) + vec4<u32>(0u, 1u, 2u, 3u);
        let seen = (j >= vec4<u32>(earliest)) & (j <= vec4<u32>(own));
        ${products(geometry, 'scores', 'q', 'keys', 'k')}
        ${products(geometry, 'rises', 'dy', 'values', 'k')}
        let slopes = select(vec4<f32>(), exp2(scores - log_sum) * (rises - delta), seen);
        ${addRows(geometry, 'slopes', 'k', [{ to: 'dq', weights: 'slopes', tile: 'keys' }])}
      }
    }
    if (!live) { return; }
    ${eachOwn(geometry, (i) => `dq_put(row, ${vectorAt(geometry, i)}, p.scale * dq_${i});`)}`,
  });
}
