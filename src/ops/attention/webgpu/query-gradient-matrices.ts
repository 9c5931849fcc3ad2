/** The gradient of queries on matrix units. */
import type { GpuDispatch, GpuLaunch } from '../../../tensor/index.js';
import { repeat } from '../../../wgsl/vectors.js';
import type { BackwardBuffers, BackwardParameters } from './backward.js';
import { matrixQuery, queryAt } from './forward-matrices.js';
import * as m from './matrices.js';
import { placesCode, placesOf } from './places.js';

export function queryGradientByMatrices(launch: GpuLaunch<BackwardBuffers, BackwardParameters>, geometry = m.partnersGeometry(launch.parameters.size, launch.parameters.size <= 64 ? 8 : 4)): GpuDispatch[] {
  const { parameters, dtype } = launch;
  const { batch, length, heads, size, pagesPerRow } = parameters;
  // The one partner has queries and finds scores, the other dy and how weights would rise; of dq each adds up half the numbers.
  const half = Math.ceil(geometry.deep / 2);
  const q = m.eights('q', dtype('q'), 'p.qPitch');
  const k = m.eights('k', dtype('k'), 'p.kPitch');
  const v = m.eights('v', dtype('v'), 'p.vPitch');
  const dy = m.eights('dy', dtype('dy'), 'p.dyPitch');
  const dq = m.eights('dq', dtype('dq'), 'p.size');
  const number = (c: number, from: number) => `bitcast<vec4<f32>>(strips[strip + ${from}u + 2u * sharer + ${c}u])`;
  const keyRow = (key: string) => `let j = ${key} + r; let present = j >= tile_from && j <= tile_own; let at = key_row(b, min(j, tile_own), head);`;
  return m.matrixDispatches({
    geometry,
    variant: 'query gradient',
    groups: batch * heads,
    rows: length,
    work: 3 * m.rowsOf(geometry) * size * Math.max(length, pagesPerRow * 64),
    lastFirst: true,
    buffers: [q.binding, k.binding, v.binding, ...placesOf(launch), dy.binding, { name: 'statistics', access: 'read' }, dq.binding],
    functions: `${placesCode(launch)} ${q.read} ${k.read} ${v.read} ${dy.read} ${dq.write}`,
    tiles: { pairs: 2 * m.side },
    body: `
    ${matrixQuery(geometry)}
    ${m.loadPartnersRows(geometry, ['q', 'dy'], queryAt(geometry))}
    let factor = p.scale * ${Math.LOG2E};
    let place = p.statistics_at + 2u * ((b * p.heads + h) * p.length + t);
    let log_sum = statistics[place];
    let delta = statistics[place + 1u];
    ${m.eachHigh(geometry, (i) => repeat(half, (s) => m.zeroSums(`sums_${i}_${s}`)))}
    let start = tile_from - tile_from % ${m.side}u;
    ${m.declareNext(geometry, m.side, 'k')} ${m.declareNext(geometry, m.side, 'v')}
    ${m.fetchTile(geometry, m.side, ['k', 'v'], keyRow('start'))}
    for (var key = start; key <= tile_own; key += ${m.side}u) {
      workgroupBarrier();
      ${m.stageInPair(geometry, 'k', 0)}
      ${m.stageInPair(geometry, 'v', 1)}
      workgroupBarrier();
      ${m.fetchTile(geometry, m.side, ['k', 'v'], keyRow(`(key + ${m.side}u)`))}
      {
        ${m.eachHigh(geometry, (i) => m.zeroSums(`found_${i}`))}
        ${m.eachDeep(geometry, (s) => `{ let right = ${m.transposedOfPair(geometry, 'role', s)};
          ${m.eachHigh(geometry, (i) => `found_${i} = subgroupMatrixMultiplyAccumulate(left_${i}_${s}, right, found_${i});`)} }`)}
        ${m.eachHigh(geometry, (i) => m.storeInStrip(geometry, `found_${i}`, i, '4u * role'))}
      }
      workgroupBarrier();
      ${repeat(2, (c) => `var s_${c} = exp2(factor * ${number(c, 0)} - log_sum) * (${number(c, 4)} - delta);`)}
      if (key + ${m.side - 1}u > tile_first_own || key < tile_last_from) {
        ${repeat(
          2,
          (c) => `{ let j = vec4<u32>(key + 4u * (2u * sharer + ${c}u)) + vec4<u32>(0u, 1u, 2u, 3u);
          s_${c} = select(vec4<f32>(), s_${c}, (j >= vec4<u32>(earliest)) & (j <= vec4<u32>(own))); }`,
        )}
      }
      workgroupBarrier();
      strips[strip + sharer] = ${m.packFours('s_0', 's_1')};
      workgroupBarrier();
      {
        ${m.eachHigh(geometry, (i) => `let slopes_${i} = ${m.leftOfStrip(geometry, i, 0)};`)}
        ${repeat(half, (s) => `{ let right = ${m.pairAsItIs(geometry, '0u', `role * ${half}u + ${s}u`)};
          ${m.eachHigh(geometry, (i) => `sums_${i}_${s} = subgroupMatrixMultiplyAccumulate(slopes_${i}, right, sums_${i}_${s});`)} }`)}
      }
    }
    if (${m.never('dq')}) {
      ${m.eachHigh(geometry, (i) => repeat(half, (s) => `subgroupMatrixStore<row_major>(&dq, ${i + s}u, sums_${i}_${s}, 8u);`))}
      return;
    }
    ${m.storePartnersRows(geometry, half, 'p.scale', (s) => `if (role * ${half}u + ${s}u < ${geometry.deep}u) { dq_put(row, 2u * (role * ${half}u + ${s}u) + eight, first, second); }`)}`,
  });
}
