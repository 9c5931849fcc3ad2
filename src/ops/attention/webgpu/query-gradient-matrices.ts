/** The gradient of queries on matrix units. */
import type { GpuDispatch, GpuLaunch } from '../../../tensor/index.js';
import { repeat } from '../../../wgsl/vectors.js';
import type { BackwardBuffers, BackwardParameters } from './backward.js';
import { matrixQuery, queryAt } from './forward-matrices.js';
import * as m from './matrices.js';
import { placesCode, placesOf } from './places.js';

export function queryGradientByMatrices(launch: GpuLaunch<BackwardBuffers, BackwardParameters>, geometry = m.matrixGeometry(launch.parameters.size)): GpuDispatch[] {
  const { parameters, dtype } = launch;
  const { batch, length, heads, size, pagesPerRow } = parameters;
  const { sharers } = geometry;
  const q = m.eights('q', dtype('q'), 'p.qPitch');
  const k = m.eights('k', dtype('k'), 'p.kPitch');
  const v = m.eights('v', dtype('v'), 'p.vPitch');
  const dy = m.eights('dy', dtype('dy'), 'p.dyPitch');
  const dq = m.eights('dq', dtype('dq'), 'p.size');
  const fours = 4 / sharers;
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
    tiles: { keys: m.side, values: m.side },
    body: `
    ${matrixQuery(geometry)}
    ${m.loadRows(geometry, 'q', queryAt(geometry))}
    ${m.loadRows(geometry, 'dy', queryAt(geometry))}
    let factor = p.scale * ${Math.LOG2E};
    let place = p.statistics_at + 2u * ((b * p.heads + h) * p.length + t);
    let log_sum = statistics[place];
    let delta = statistics[place + 1u];
    ${m.eachHigh(geometry, (i) => m.eachDeep(geometry, (s) => m.zeroSums(`dq_${i}_${s}`)))}
    let start = tile_from - tile_from % ${m.side}u;
    ${m.declareNext(geometry, m.side, 'k')} ${m.declareNext(geometry, m.side, 'v')}
    ${m.fetchTile(geometry, m.side, ['k', 'v'], keyRow('start'))}
    for (var key = start; key <= tile_own; key += ${m.side}u) {
      workgroupBarrier();
      ${m.stageTile(geometry, m.side, 'k', 'keys')}
      ${m.stageTile(geometry, m.side, 'v', 'values')}
      workgroupBarrier();
      ${m.fetchTile(geometry, m.side, ['k', 'v'], keyRow(`(key + ${m.side}u)`))}
      {
        ${m.eachHigh(geometry, (i) => `${m.zeroSums(`score_${i}`)} ${m.zeroSums(`rise_${i}`)}`)}
        ${m.eachDeep(
          geometry,
          (s) => `{ let key_part = ${m.transposedOf(geometry, 'keys', 0, s)}; let value_part = ${m.transposedOf(geometry, 'values', 0, s)};
          ${m.eachHigh(geometry, (i) => `score_${i} = subgroupMatrixMultiplyAccumulate(q_${i}_${s}, key_part, score_${i}); rise_${i} = subgroupMatrixMultiplyAccumulate(dy_${i}_${s}, value_part, rise_${i});`)} }`,
        )}
        ${m.eachHigh(geometry, (i) => `${m.storeInStrip(geometry, `score_${i}`, i, 0)} ${m.storeInStrip(geometry, `rise_${i}`, i, 4)}`)}
      }
      workgroupBarrier();
      ${repeat(
        fours,
        (c) => `
      var s_${c} = exp2(factor * bitcast<vec4<f32>>(strips[strip + sharer * ${fours}u + ${c}u]) - log_sum) * (bitcast<vec4<f32>>(strips[strip + 4u + sharer * ${fours}u + ${c}u]) - delta);`,
      )}
      if (key + ${m.side - 1}u > tile_first_own || key < tile_last_from) {
        ${repeat(
          fours,
          (c) => `{ let j = vec4<u32>(key + 4u * (sharer * ${fours}u + ${c}u)) + vec4<u32>(0u, 1u, 2u, 3u);
          s_${c} = select(vec4<f32>(), s_${c}, (j >= vec4<u32>(earliest)) & (j <= vec4<u32>(own))); }`,
        )}
      }
      ${sharers === 1 ? '' : 'workgroupBarrier();'}
      ${repeat(fours / 2, (c) => `strips[strip + sharer * ${fours / 2}u + ${c}u] = ${m.packFours(`s_${2 * c}`, `s_${2 * c + 1}`)};`)}
      workgroupBarrier();
      {
        ${m.eachHigh(geometry, (i) => `let left_${i} = ${m.leftOfStrip(geometry, i, 0)};`)}
        ${m.eachDeep(geometry, (s) => `{ let right = ${m.asItIs(geometry, 'keys', 0, s)};
          ${m.eachHigh(geometry, (i) => `dq_${i}_${s} = subgroupMatrixMultiplyAccumulate(left_${i}, right, dq_${i}_${s});`)} }`)}
      }
    }
    if (${m.never('dq')}) {
      ${m.eachHigh(geometry, (i) => m.eachDeep(geometry, (s) => `subgroupMatrixStore<row_major>(&dq, ${i + s}u, dq_${i}_${s}, 8u);`))}
      return;
    }
    ${m.storeRows(geometry, 'dq', 'p.scale', 'dq_put(row, c, first, second);')}`,
  });
}
