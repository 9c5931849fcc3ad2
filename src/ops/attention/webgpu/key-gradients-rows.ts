/** The gradients of keys and values on any GPU: keys and values in registers, queries and their gradients in tiles. */
import type { GpuDispatch, GpuLaunch } from '../../../tensor/index.js';
import type { BackwardBuffers, BackwardParameters } from './backward.js';
import { headRows, placesCode, placesOf } from './places.js';
import { addRows, eachOwn, fillTiles, products, rowDispatches, rowGeometry, vectorAt } from './rows.js';

export function keyGradientsByRows(launch: GpuLaunch<BackwardBuffers, BackwardParameters>): GpuDispatch[] {
  const { gpu, parameters, has } = launch;
  const { batch, length, heads, kvHeads, size } = parameters;
  const geometry = rowGeometry(size);
  const group = heads / kvHeads;
  const q = headRows(launch, 'q', ['p.qPitch', parameters.qPitch]);
  const k = headRows(launch, 'k', ['p.kPitch', parameters.kPitch]);
  const v = headRows(launch, 'v', ['p.vPitch', parameters.vPitch]);
  const dy = headRows(launch, 'dy', ['p.dyPitch', parameters.dyPitch]);
  const outputs = (['dk', 'dv'] as const).filter(has).map((name) => ({ name, rows: headRows(launch, name, ['p.size', size]) }));
  const added = {
    dk: { to: 'dk', weights: 'slopes', tile: 'queries' },
    dv: { to: 'dv', weights: 'weights', tile: 'rises_of' },
  };
  return rowDispatches({
    gpu,
    geometry,
    variant: `key gradients ${size} ${outputs.map(({ name }) => name).join()}`,
    groups: batch * kvHeads,
    rows: length,
    work: 4 * geometry.rows * size * length * group,
    // The first keys are seen by the most queries.
    lastFirst: false,
    buffers: [q.binding, k.binding, v.binding, ...placesOf(launch), dy.binding, { name: 'statistics', access: 'read' }, ...outputs.map(({ rows }) => rows.binding)],
    functions: `${placesCode(launch)} ${q.read} ${k.read} ${v.read} ${dy.read} ${outputs.map(({ rows }) => rows.write).join('')}`,
    tiles: ['queries', 'rises_of'],
    perTileRow: { of_query: 'vec2<f32>', earliest: 'u32' },
    body: `
    let b = group / p.kvHeads;
    let head = group % p.kvHeads;
    let first = tile * ${geometry.rows}u;
    let i = first + row_in_tile;
    let live = i < p.length;
    let before_pass = positions_before(b);
    let own = before_pass + min(i, p.length - 1u);
    let row = key_row(b, own, head);
    // No query of the pass that is past this sees the last key.
    let last_key = before_pass + min(first + ${geometry.rows - 1}u, p.length - 1u);
    ${eachOwn(geometry, (i) => `let k_${i} = k_four(row, ${vectorAt(geometry, i)}); let v_${i} = v_four(row, ${vectorAt(geometry, i)}); var dk_${i} = vec4<f32>(); var dv_${i} = vec4<f32>();`)}
    let factor = p.scale * ${Math.LOG2E};
    let sharing = p.heads / p.kvHeads;
    for (var h = head * sharing; h < (head + 1u) * sharing; h++) {
      for (var query = first - first % ${geometry.tile}u; query < p.length; query += ${geometry.tile}u) {
        if (first_seen(b, query, before_pass + query) > last_key) { break; }
        workgroupBarrier();
        ${fillTiles(geometry, { queries: 'q_four(query_at, c)', rises_of: 'dy_four(query_at, c)' }, 'let t = query + r; let query_at = (b * p.length + t) * p.heads + h;', 't >= first && t < p.length')}
        for (var r = thread; r < ${geometry.tile}u; r += ${geometry.threads}u) {
          let t = query + r;
          // What no key is at or after: queries beyond the end.
          earliest[r] = 0xffffffffu;
          if (t >= first && t < p.length) {
            let place = p.statistics_at + 2u * ((b * p.heads + h) * p.length + t);
            of_query[r] = vec2<f32>(statistics[place], statistics[place + 1u]);
            earliest[r] = first_seen(b, t, before_pass + t);
          }
        }
        workgroupBarrier();
        for (var r = 0u; r < ${geometry.tile}u; r += 4u) {
          let t = vec4<u32>(query + r) + vec4<u32>(0u, 1u, 2u, 3u) + before_pass;
          let seen = (vec4<u32>(own) >= vec4<u32>(earliest[r], earliest[r + 1u], earliest[r + 2u], earliest[r + 3u])) & (vec4<u32>(own) <= t);
          let log_sums = vec4<f32>(of_query[r].x, of_query[r + 1u].x, of_query[r + 2u].x, of_query[r + 3u].x);
          let deltas_of = vec4<f32>(of_query[r].y, of_query[r + 1u].y, of_query[r + 2u].y, of_query[r + 3u].y);
          ${products(geometry, 'scores', 'k', 'queries', 'r')}
          ${products(geometry, 'rises', 'v', 'rises_of', 'r')}
          let weights = select(vec4<f32>(), exp2(factor * scores - log_sums), seen);
          let slopes = select(vec4<f32>(), weights * (rises - deltas_of), seen);
          ${addRows(geometry, 'weights', 'r', outputs.map(({ name }) => added[name]))}
        }
      }
    }
    if (!live) { return; }
    let to = (b * p.length + i) * p.kvHeads + head;
    ${has('dk') ? eachOwn(geometry, (i) => `dk_put(to, ${vectorAt(geometry, i)}, p.scale * dk_${i});`) : ''}
    ${has('dv') ? eachOwn(geometry, (i) => `dv_put(to, ${vectorAt(geometry, i)}, dv_${i});`) : ''}`,
  });
}
