/** The gradients of keys and values on matrix units: everything transposed, rows are keys. */
import type { GpuDispatch, GpuLaunch } from '../../../tensor/index.js';
import { repeat } from '../../../wgsl/vectors.js';
import type { BackwardBuffers, BackwardParameters } from './backward.js';
import * as m from './matrices.js';
import { placesCode, placesOf } from './places.js';

export function keyGradientsByMatrices(launch: GpuLaunch<BackwardBuffers, BackwardParameters>, geometry = m.matrixGeometry(launch.parameters.size)): GpuDispatch[] {
  const { parameters, dtype, has } = launch;
  const { batch, length, heads, kvHeads, size } = parameters;
  const { sharers } = geometry;
  const group = heads / kvHeads;
  const q = m.eights('q', dtype('q'), 'p.qPitch');
  const k = m.eights('k', dtype('k'), 'p.kPitch');
  const v = m.eights('v', dtype('v'), 'p.vPitch');
  const dy = m.eights('dy', dtype('dy'), 'p.dyPitch');
  const outputs = (['dk', 'dv'] as const).filter(has).map((name) => ({ name, eights: m.eights(name, dtype(name), 'p.size') }));
  // Where the left factor lies in a strip, and the tile it meets.
  const made = { dk: { at: 2, tile: 'queries' }, dv: { at: 0, tile: 'rises_of' } } as const;
  const fours = 4 / sharers;
  const rowsAt = `let of_row = tile * ${m.rowsOf(geometry)}u + r; let present = of_row < p.length; let at = key_row(b, before_pass + min(of_row, p.length - 1u), head);`;
  const fetch = (h: string, query: string) =>
    m.fetchTile(geometry, m.side, ['q', 'dy'], `let of_query = ${query} + r; let present = of_query < p.length; let at = (b * p.length + min(of_query, p.length - 1u)) * p.heads + ${h};`);
  return m.matrixDispatches({
    geometry,
    variant: `key gradients ${outputs.map(({ name }) => name).join()}`,
    groups: batch * kvHeads,
    rows: length,
    work: 4 * m.rowsOf(geometry) * size * length * group,
    // The first keys are seen by the most queries.
    lastFirst: false,
    buffers: [q.binding, k.binding, v.binding, ...placesOf(launch), dy.binding, { name: 'statistics', access: 'read' }, ...outputs.map((one) => one.eights.binding)],
    functions: `${placesCode(launch)} ${q.read} ${k.read} ${v.read} ${dy.read} ${outputs.map((one) => one.eights.write).join('')}
  var<workgroup> of_queries: array<vec2<f32>, ${m.side}>;
  var<workgroup> earliest: array<u32, ${m.side}>;`,
    tiles: { queries: m.side, rises_of: m.side },
    body: `
    let b = group / p.kvHeads;
    let head = group % p.kvHeads;
    let first = tile * ${m.rowsOf(geometry)}u;
    let live = first + row_in_tile < p.length;
    let before_pass = positions_before(b);
    let own = before_pass + min(first + row_in_tile, p.length - 1u);
    let first_key = before_pass + first;
    let last_key = before_pass + min(first + ${m.rowsOf(geometry) - 1}u, p.length - 1u);
    ${m.loadRows(geometry, 'k', rowsAt)}
    ${m.loadRows(geometry, 'v', rowsAt)}
    let factor = p.scale * ${Math.LOG2E};
    ${outputs.map(({ name }) => m.eachHigh(geometry, (i) => m.eachDeep(geometry, (s) => m.zeroSums(`${name}_${i}_${s}`)))).join('\n')}
    ${m.declareNext(geometry, m.side, 'q')} ${m.declareNext(geometry, m.side, 'dy')}
    let sharing = p.heads / p.kvHeads;
    for (var h = head * sharing; h < (head + 1u) * sharing; h++) {
      ${fetch('h', 'first')}
      for (var query = first; query < p.length; query += ${m.side}u) {
        // Later queries see no earlier keys.
        let tile_from = first_seen(b, query, before_pass + query);
        if (tile_from > last_key) { break; }
        workgroupBarrier();
        ${m.stageTile(geometry, m.side, 'q', 'queries')}
        ${m.stageTile(geometry, m.side, 'dy', 'rises_of')}
        if (thread < ${m.side}u) {
          let t = min(query + thread, p.length - 1u);
          let place = p.statistics_at + 2u * ((b * p.heads + h) * p.length + t);
          of_queries[thread] = vec2<f32>(statistics[place], statistics[place + 1u]);
          // Queries beyond the end see nothing.
          earliest[thread] = select(0xffffffffu, first_seen(b, t, before_pass + t), query + thread < p.length);
        }
        workgroupBarrier();
        ${fetch('h', `(query + ${m.side}u)`)}
        {
          ${m.eachHigh(geometry, (i) => `${m.zeroSums(`score_${i}`)} ${m.zeroSums(`rise_${i}`)}`)}
          ${m.eachDeep(
            geometry,
            (s) => `{ let query_part = ${m.transposedOf(geometry, 'queries', 0, s)}; let rise_part = ${m.transposedOf(geometry, 'rises_of', 0, s)};
            ${m.eachHigh(geometry, (i) => `score_${i} = subgroupMatrixMultiplyAccumulate(k_${i}_${s}, query_part, score_${i}); rise_${i} = subgroupMatrixMultiplyAccumulate(v_${i}_${s}, rise_part, rise_${i});`)} }`,
          )}
          ${m.eachHigh(geometry, (i) => `${m.storeInStrip(geometry, `score_${i}`, i, 0)} ${m.storeInStrip(geometry, `rise_${i}`, i, 4)}`)}
        }
        workgroupBarrier();
        ${repeat(
          fours,
          (c) => `
        let nth_${c} = 4u * (sharer * ${fours}u + ${c}u);
        let statistics_${c} = array<vec2<f32>, 4>(of_queries[nth_${c}], of_queries[nth_${c} + 1u], of_queries[nth_${c} + 2u], of_queries[nth_${c} + 3u]);
        var w_${c} = exp2(factor * bitcast<vec4<f32>>(strips[strip + sharer * ${fours}u + ${c}u]) - vec4<f32>(${[0, 1, 2, 3].map((n) => `statistics_${c}[${n}].x`).join(', ')}));
        let slope_${c} = bitcast<vec4<f32>>(strips[strip + 4u + sharer * ${fours}u + ${c}u]) - vec4<f32>(${[0, 1, 2, 3].map((n) => `statistics_${c}[${n}].y`).join(', ')});`,
        )}
        // What some query does not see.
        if (query + before_pass < last_key || first_seen(b, min(query + ${m.side - 1}u, p.length - 1u), before_pass + min(query + ${m.side - 1}u, p.length - 1u)) > first_key || query + ${m.side}u > p.length) {
          ${repeat(
            fours,
            (c) => `{ let t = vec4<u32>(before_pass + query + nth_${c}) + vec4<u32>(0u, 1u, 2u, 3u);
            let from_here = vec4<u32>(earliest[nth_${c}], earliest[nth_${c} + 1u], earliest[nth_${c} + 2u], earliest[nth_${c} + 3u]);
            w_${c} = select(vec4<f32>(), w_${c}, (vec4<u32>(own) >= from_here) & (vec4<u32>(own) <= t)); }`,
          )}
        }
        ${sharers === 1 ? '' : 'workgroupBarrier();'}
        ${repeat(fours / 2, (c) => `
        strips[strip + sharer * ${fours / 2}u + ${c}u] = ${m.packFours(`w_${2 * c}`, `w_${2 * c + 1}`)};
        strips[strip + 2u + sharer * ${fours / 2}u + ${c}u] = ${m.packFours(`(w_${2 * c} * slope_${2 * c})`, `(w_${2 * c + 1} * slope_${2 * c + 1})`)};`)}
        workgroupBarrier();
        ${outputs
          .map(
            ({ name }) => `{
          ${m.eachHigh(geometry, (i) => `let left_${i} = ${m.leftOfStrip(geometry, i, made[name].at)};`)}
          ${m.eachDeep(geometry, (s) => `{ let right = ${m.asItIs(geometry, made[name].tile, 0, s)};
            ${m.eachHigh(geometry, (i) => `${name}_${i}_${s} = subgroupMatrixMultiplyAccumulate(left_${i}, right, ${name}_${i}_${s});`)} }`)}
        }`,
          )
          .join('\n        ')}
      }
    }
    let to = (b * p.length + min(first + row_in_tile, p.length - 1u)) * p.kvHeads + head;
    if (${m.never(outputs[0]?.name ?? '')}) {
      ${outputs.map(({ name }) => m.eachHigh(geometry, (i) => m.eachDeep(geometry, (s) => `subgroupMatrixStore<row_major>(&${name}, ${i + s}u, ${name}_${i}_${s}, 8u);`))).join('\n      ')}
      return;
    }
    ${outputs.map(({ name }) => m.storeRows(geometry, name, name === 'dk' ? 'p.scale' : '1.0', `${name}_put(to, c, first, second);`)).join('')}`,
  });
}
