/** The gradients of keys and values on matrix units: everything transposed, rows are keys. */
import type { GpuDispatch, GpuLaunch } from '../../../tensor/index.js';
import { repeat } from '../../../wgsl/vectors.js';
import type { BackwardBuffers, BackwardParameters } from './backward.js';
import * as m from './matrices.js';
import { placesCode, placesOf } from './places.js';

export function keyGradientsByMatrices(launch: GpuLaunch<BackwardBuffers, BackwardParameters>, geometry = m.partnersGeometry(launch.parameters.size, 4)): GpuDispatch[] {
  const { parameters, dtype, has } = launch;
  const { batch, length, heads, kvHeads, size } = parameters;
  const group = heads / kvHeads;
  const q = m.eights('q', dtype('q'), 'p.qPitch');
  const k = m.eights('k', dtype('k'), 'p.kPitch');
  const v = m.eights('v', dtype('v'), 'p.vPitch');
  const dy = m.eights('dy', dtype('dy'), 'p.dyPitch');
  const outputs = (['dk', 'dv'] as const).filter(has).map((name) => ({ name, eights: m.eights(name, dtype(name), 'p.size') }));
  const number = (c: number, from: number) => `bitcast<vec4<f32>>(strips[strip + ${from}u + 2u * sharer + ${c}u])`;
  const rowsAt = `let of_row = tile * ${m.rowsOf(geometry)}u + r; let present = of_row < p.length; let at = key_row(b, before_pass + min(of_row, p.length - 1u), head);`;
  const fetch = (h: string, query: string) =>
    `${m.fetchTile(geometry, m.side, ['q', 'dy'], `let of_query = ${query} + r; let present = of_query < p.length; let at = (b * p.length + min(of_query, p.length - 1u)) * p.heads + ${h};`)}
      if (thread < ${m.side}u) {
        let t = min(${query} + thread, p.length - 1u);
        let place = p.statistics_at + 2u * ((b * p.heads + ${h}) * p.length + t);
        next_statistics = vec2<f32>(statistics[place], statistics[place + 1u]);
        // Queries beyond the end see nothing.
        next_earliest = select(0xffffffffu, first_seen(b, t, before_pass + t), ${query} + thread < p.length);
      }`;
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
  var<workgroup> log_sums_of: array<vec4<f32>, ${m.side / 4}>;
  var<workgroup> deltas_of: array<vec4<f32>, ${m.side / 4}>;
  var<workgroup> earliest: array<u32, ${m.side}>;`,
    tiles: { pairs: 2 * m.side },
    body: `
    let b = group / p.kvHeads;
    let head = group % p.kvHeads;
    let first = tile * ${m.rowsOf(geometry)}u;
    let live = first + row_in_tile < p.length;
    let before_pass = positions_before(b);
    let own = before_pass + min(first + row_in_tile, p.length - 1u);
    let first_key = before_pass + first;
    let last_key = before_pass + min(first + ${m.rowsOf(geometry) - 1}u, p.length - 1u);
    // The one partner has keys, finds scores and adds up dv; the other has values, finds how weights would rise and adds up dk.
    ${m.loadPartnersRows(geometry, ['k', 'v'], rowsAt)}
    let factor = p.scale * ${Math.LOG2E};
    ${m.eachHigh(geometry, (i) => m.eachDeep(geometry, (s) => m.zeroSums(`sums_${i}_${s}`)))}
    ${m.declareNext(geometry, m.side, 'q')} ${m.declareNext(geometry, m.side, 'dy')}
    var next_statistics = vec2<f32>();
    var next_earliest = 0u;
    let sharing = p.heads / p.kvHeads;
    for (var h = head * sharing; h < (head + 1u) * sharing; h++) {
      ${fetch('h', 'first')}
      for (var query = first; query < p.length; query += ${m.side}u) {
        // Later queries see no earlier keys.
        let tile_from = first_seen(b, query, before_pass + query);
        if (tile_from > last_key) { break; }
        workgroupBarrier();
        ${m.stageInPair(geometry, 'q', 0)}
        ${m.stageInPair(geometry, 'dy', 1)}
        if (thread < ${m.side}u) {
          log_sums_of[thread / 4u][thread % 4u] = next_statistics.x;
          deltas_of[thread / 4u][thread % 4u] = next_statistics.y;
          earliest[thread] = next_earliest;
        }
        workgroupBarrier();
        ${fetch('h', `(query + ${m.side}u)`)}
        {
          ${m.eachHigh(geometry, (i) => m.zeroSums(`found_${i}`))}
          ${m.eachDeep(geometry, (s) => `{ let right = ${m.transposedOfPair(geometry, 'role', s)};
            ${m.eachHigh(geometry, (i) => `found_${i} = subgroupMatrixMultiplyAccumulate(left_${i}_${s}, right, found_${i});`)} }`)}
          ${m.eachHigh(geometry, (i) => m.storeInStrip(geometry, `found_${i}`, i, '4u * role'))}
        }
        workgroupBarrier();
        ${repeat(
          2,
          (c) => `
        let four_${c} = 2u * sharer + ${c}u;
        let nth_${c} = 4u * four_${c};
        var w_${c} = exp2(factor * ${number(c, 0)} - log_sums_of[four_${c}]);
        let slope_${c} = ${number(c, 4)} - deltas_of[four_${c}];`,
        )}
        // What some query does not see.
        if (query + before_pass < last_key || first_seen(b, min(query + ${m.side - 1}u, p.length - 1u), before_pass + min(query + ${m.side - 1}u, p.length - 1u)) > first_key || query + ${m.side}u > p.length) {
          ${repeat(
            2,
            (c) => `{ let t = vec4<u32>(before_pass + query + nth_${c}) + vec4<u32>(0u, 1u, 2u, 3u);
            let from_here = vec4<u32>(earliest[nth_${c}], earliest[nth_${c} + 1u], earliest[nth_${c} + 2u], earliest[nth_${c} + 3u]);
            w_${c} = select(vec4<f32>(), w_${c}, (vec4<u32>(own) >= from_here) & (vec4<u32>(own) <= t)); }`,
          )}
        }
        workgroupBarrier();
        strips[strip + sharer] = ${m.packFours('w_0', 'w_1')};
        strips[strip + 2u + sharer] = ${m.packFours('(w_0 * slope_0)', '(w_1 * slope_1)')};
        workgroupBarrier();
        {
          ${m.eachHigh(geometry, (i) => `let made_${i} = ${m.leftOfStrip(geometry, i, '2u * role')};`)}
          ${m.eachDeep(geometry, (s) => `{ let right = ${m.pairAsItIs(geometry, '(1u - role)', `${s}u`)};
            ${m.eachHigh(geometry, (i) => `sums_${i}_${s} = subgroupMatrixMultiplyAccumulate(made_${i}, right, sums_${i}_${s});`)} }`)}
        }
      }
    }
    let to = (b * p.length + min(first + row_in_tile, p.length - 1u)) * p.kvHeads + head;
    if (${m.never(outputs[0]?.name ?? '')}) {
      ${m.eachHigh(geometry, (i) => m.eachDeep(geometry, (s) => `subgroupMatrixStore<row_major>(&${outputs[0]?.name ?? ''}, ${i + s}u, sums_${i}_${s}, 8u);`))}
      return;
    }
    ${m.storePartnersRows(geometry, geometry.deep, 'select(1.0, p.scale, role == 1u)', (s) =>
      outputs.map(({ name }) => `if (role == ${name === 'dk' ? 1 : 0}u) { ${name}_put(to, ${2 * s}u + eight, first, second); }`).join(' '),
    )}`,
  });
}
