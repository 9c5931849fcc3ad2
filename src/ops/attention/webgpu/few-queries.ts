/**
 * A few queries after many positions, as in decoding: pages are shared out over workgroups, since queries are too few for a GPU. How many
 * positions there are is known on the device only; workgroups beyond them have nothing to do.
 */
import { fold, type GpuDispatch, type GpuLaunch, type GpuWork } from '../../../tensor/index.js';
import { teamSum } from '../../../wgsl/rows.js';
import { gather, laneOf, repeat, saturated, vectorOf } from '../../../wgsl/vectors.js';
import { pageLength } from '../reference.js';
import type { ForwardBuffers, ForwardParameters } from './forward.js';
import { lowest } from './forward-rows.js';
import { headRows, placesCode, placesOf } from './places.js';

const threads = 128;
/** Workgroups that keep a large GPU busy. */
const busy = 1024;
/** Vectors of queries that an invocation keeps. */
const mostVectors = 16;
/** Vectors of keys that an invocation asks for at once. */
const ahead = 8;
/** Invocations that share a key at most: a product is summed over them. */
const mostSharers = 16;

interface Layout {
  /** Queries that share a head of keys. */
  readonly queries: number;
  /** Neighbouring invocations that share a key, and the vectors of each. */
  readonly team: number;
  readonly own: number;
  readonly parts: number;
}

function layOut({ parameters }: GpuLaunch<ForwardBuffers, ForwardParameters>): Layout {
  const { batch, length, heads, kvHeads, size, pagesPerRow } = parameters;
  const vectors = Math.ceil(size / 4);
  const team = 2 ** Math.ceil(Math.log2(Math.min(mostSharers, vectors)));
  const parts = Math.max(1, Math.min(pagesPerRow, Math.ceil(busy / Math.max(1, batch * kvHeads))));
  return { queries: length * (heads / kvHeads), team, own: Math.ceil(vectors / team), parts };
}

/** Whether there are few enough queries. */
export function areFew(launch: GpuLaunch<ForwardBuffers, ForwardParameters>): boolean {
  const { queries, own } = layOut(launch);
  return launch.parameters.pagesPerRow > 0 && queries <= 8 && queries * own <= mostVectors;
}

export function fewQueries(launch: GpuLaunch<ForwardBuffers, ForwardParameters>): GpuWork {
  const layout = layOut(launch);
  const { batch, kvHeads } = launch.parameters;
  const { parts, queries, team, own } = layout;
  const first = pagesDispatch(launch, layout);
  if (parts === 1) return { dispatches: [first] };
  const rows = batch * kvHeads * parts * queries;
  return {
    dispatches: [first, combination(launch, layout)],
    scratch: { sums: { dtype: 'f32', size: rows * 4 * team * own }, totals: { dtype: 'f32', size: 2 * rows } },
  };
}

/** Declares b, head, before_pass, and of the sequence's queries the first page that one sees, and how many pages there are to read. */
const whoCode = (unit: string): string => `
    let b = ${unit} / p.kvHeads;
    let head = ${unit} % p.kvHeads;
    let before_pass = positions_before(b);
    let last_seen = before_pass + p.length - 1u;
    let earliest = first_seen(b, 0u, before_pass);
    let first_page = earliest / ${pageLength}u;
    let page_count = last_seen / ${pageLength}u + 1u - first_page;`;

const rowOf = (r: string, group: number): string => `(b * p.length + ${r} / ${group}u) * p.heads + head * ${group}u + ${r} % ${group}u`;

function pagesDispatch(launch: GpuLaunch<ForwardBuffers, ForwardParameters>, { queries, team, own, parts }: Layout): GpuDispatch {
  const { gpu, parameters, has, dtype } = launch;
  const { batch, heads, kvHeads, size } = parameters;
  const group = heads / kvHeads;
  const [q, k, v] = (['q', 'k', 'v'] as const).map((name) => headRows(launch, name, [`p.${name}Pitch`, parameters[`${name}Pitch`]])) as [
    ReturnType<typeof headRows>,
    ReturnType<typeof headRows>,
    ReturnType<typeof headRows>,
  ];
  const y = headRows(launch, 'y', ['p.size', size]);
  const keysAtOnce = threads / team;
  const turns = Math.max(1, pageLength / keysAtOnce);
  const together = Math.min(turns, Math.max(1, ahead / own));
  // Products of four queries are summed together, of one by themselves.
  const summed = queries === 1 ? 1 : 4;
  const padded = summed * Math.ceil(queries / summed);
  const eachQuery = (statement: (r: number) => string) => repeat(queries, statement);
  const eachOwn = (statement: (i: number) => string) => repeat(own, statement);
  const column = (i: number) => `${i * team}u + share`;
  const whole = parts === 1;
  const numbered = has('logSums') && whole;
  const converted = dtype('y') === 'f16' ? `vec4<f32>(${saturated(4, 'f16', 'of_row')})` : 'of_row';
  return {
    variant: `few ${queries} ${group} ${size}${whole ? '' : ' parts'}`,
    buffers: [q.binding, k.binding, v.binding, ...placesOf(launch), ...(whole ? [y.binding, ...(numbered ? ['logSums'] : [])] : [{ name: 'sums', as: 'vec4<f32>' }, 'totals'])],
    numbers: { units: batch * kvHeads, parts },
    workgroups: fold(batch * kvHeads * parts),
    code: () => `
  ${placesCode(launch)} ${q.read} ${k.read} ${v.read} ${whole ? y.write : ''}
  ${teamSum(gpu, 'team_sum', team, threads, vectorOf(summed))}
  var<workgroup> scores: array<f32, ${queries * pageLength}>;
  var<workgroup> largest_of_lanes: array<f32, ${queries * keysAtOnce}>;
  var<workgroup> shares: array<vec4<f32>, ${threads}>;
  var<workgroup> shares_of_total: array<f32, ${threads}>;
  @compute @workgroup_size(${threads})
  fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
          @builtin(local_invocation_index) thread: u32) {
    let flat = flat_workgroup(id, count);
    if (flat >= p.units * p.parts) { return; }
    let unit = flat % p.units;
    let part = flat / p.units;
    ${whoCode('unit')}
    if (part >= page_count) { return; }
    let share = thread % ${team}u;
    let lane = thread / ${team}u;
    let factor = p.scale * ${Math.LOG2E};
    ${eachQuery(
      (r) => `
    let row_${r} = ${rowOf(`${r}u`, group)};
    let own_${r} = before_pass + ${Math.floor(r / group)}u;
    let earliest_${r} = first_seen(b, ${Math.floor(r / group)}u, own_${r});
    ${eachOwn((i) => `let q_${r}_${i} = factor * q_four(row_${r}, ${column(i)}); var y_${r}_${i} = vec4<f32>();`)}
    var largest_${r} = ${lowest};
    var total_${r} = 0.0;`,
    )}
    for (var page = first_page + part; page < first_page + page_count; page += p.parts) {
      let first = page * ${pageLength}u;
      ${eachQuery((r) => `var most_${r} = ${lowest};`)}
      workgroupBarrier();
      for (var turn = 0u; turn < ${turns}u; turn += ${together}u) {
        ${repeat(
          together,
          (n) => `
        let j_${n} = first + (turn + ${n}u) * ${keysAtOnce}u + lane;
        let written_${n} = j_${n} >= earliest && j_${n} <= last_seen;
        let row_of_${n} = key_row(b, min(j_${n}, last_seen), head);
        ${eachOwn((i) => `var k_${n}_${i} = vec4<f32>();`)}
        if (written_${n}) { ${eachOwn((i) => `k_${n}_${i} = k_four(row_of_${n}, ${column(i)});`)} }`,
        )}
        ${repeat(together, (n) =>
          repeat(padded / summed, (four) => {
            const product = (r: number) => (r >= queries ? '0.0' : Array.from({ length: own }, (_, i) => `dot(q_${r}_${i}, k_${n}_${i})`).join(' + '));
            return `
        { let s = team_sum(thread, ${gather(summed, (i) => product(summed * four + i))});
          let at = j_${n} - first;
          if (at < ${pageLength}u) { ${Array.from({ length: Math.min(summed, queries - summed * four) }, (_, i) => {
            const r = summed * four + i;
            const score = `select(${lowest}, ${laneOf(summed, 's', i)}, j_${n} >= earliest_${r} && j_${n} <= own_${r})`;
            return `let score_${r} = ${score}; most_${r} = max(most_${r}, score_${r}); if (share == 0u) { scores[${r * pageLength}u + at] = score_${r}; }`;
          }).join(' ')} } }`;
          }),
        )}
      }
      if (share == 0u) { ${eachQuery((r) => `largest_of_lanes[${r * keysAtOnce}u + lane] = most_${r};`)} }
      workgroupBarrier();
      ${eachQuery(
        (r) => `
      {
        var most = largest_${r};
        for (var other = 0u; other < ${keysAtOnce}u; other++) { most = max(most, largest_of_lanes[${r * keysAtOnce}u + other]); }
        let shrink = exp2(largest_${r} - most);
        largest_${r} = most;
        total_${r} *= shrink;
        ${eachOwn((i) => `y_${r}_${i} *= shrink;`)}
      }`,
      )}
      for (var turn = 0u; turn < ${turns}u; turn += ${together}u) {
        ${repeat(
          together,
          (n) => `
        let j_${n} = first + (turn + ${n}u) * ${keysAtOnce}u + lane;
        let written_${n} = j_${n} >= earliest && j_${n} <= last_seen && j_${n} - first < ${pageLength}u;
        let row_of_${n} = key_row(b, min(j_${n}, last_seen), head);
        ${eachOwn((i) => `var v_${n}_${i} = vec4<f32>();`)}
        if (written_${n}) { ${eachOwn((i) => `v_${n}_${i} = v_four(row_of_${n}, ${column(i)});`)} }`,
        )}
        ${repeat(
          together,
          (n) => `
        if (written_${n}) {
          ${eachQuery(
            (r) => `
          if (j_${n} >= earliest_${r} && j_${n} <= own_${r}) {
            let weight = exp2(scores[${r * pageLength}u + j_${n} - first] - largest_${r});
            total_${r} += weight;
            ${eachOwn((i) => `y_${r}_${i} += weight * v_${n}_${i};`)}
          }`,
          )}
        }`,
        )}
      }
    }
    ${eachQuery(
      (r) => `
    {
      shares_of_total[thread] = total_${r};
      ${eachOwn(
        (i) => `
      shares[thread] = y_${r}_${i};
      workgroupBarrier();
      if (lane == 0u) {
        var sum = shares[thread];
        var total = shares_of_total[thread];
        for (var other = 1u; other < ${keysAtOnce}u; other++) { sum += shares[thread + other * ${team}u]; total += shares_of_total[thread + other * ${team}u]; }
        ${
          whole
            ? `let of_row = sum / total;
        y_put(row_${r}, ${column(i)}, ${converted});
        ${numbered && i === 0 ? `if (share == 0u) { logSums[p.logSums_at + (b * p.heads + row_${r} % p.heads) * p.length + ${Math.floor(r / group)}u] = largest_${r} * ${Math.LN2} + log(total); }` : ''}`
            : `let to = (unit * p.parts + part) * ${queries}u + ${r}u;
        sums[p.sums_at + to * ${team * own}u + ${column(i)}] = sum;
        ${i === 0 ? 'if (share == 0u) { totals[p.totals_at + 2u * to] = largest_' + String(r) + '; totals[p.totals_at + 2u * to + 1u] = total; }' : ''}`
        }
      }
      workgroupBarrier();`,
      )}
    }`,
    )}
  }`,
  };
}

/** Adds up what the parts made of each query. */
function combination(launch: GpuLaunch<ForwardBuffers, ForwardParameters>, { queries, team, own, parts }: Layout): GpuDispatch {
  const { parameters, has, dtype } = launch;
  const { batch, heads, kvHeads, size } = parameters;
  const group = heads / kvHeads;
  const y = headRows(launch, 'y', ['p.size', size]);
  const lanes = threads / team;
  const converted = dtype('y') === 'f16' ? `vec4<f32>(${saturated(4, 'f16', 'of_row')})` : 'of_row';
  return {
    variant: `few combined ${queries} ${group} ${size}`,
    buffers: [{ name: 'sums', as: 'vec4<f32>', access: 'read' }, { name: 'totals', access: 'read' }, ...placesOf(launch).filter((name) => name !== 'pages'), y.binding, ...(has('logSums') ? ['logSums'] : [])],
    numbers: { rows: batch * kvHeads * queries, parts },
    workgroups: fold(batch * kvHeads * queries),
    code: () => `
  ${placesCode({ has: (name) => name !== 'pages' && launch.has(name) })} ${y.write}
  var<workgroup> shares: array<vec4<f32>, ${threads}>;
  var<workgroup> of_lanes: array<vec2<f32>, ${threads}>;
  @compute @workgroup_size(${threads})
  fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
          @builtin(local_invocation_index) thread: u32) {
    let flat = flat_workgroup(id, count);
    if (flat >= p.rows) { return; }
    let unit = flat / ${queries}u;
    let r = flat % ${queries}u;
    ${whoCode('unit')}
    let used = min(p.parts, page_count);
    let share = thread % ${team}u;
    let lane = thread / ${team}u;
    let first = unit * p.parts * ${queries}u + r;
    var largest = ${lowest};
    for (var part = thread; part < used; part += ${threads}u) { largest = max(largest, totals[p.totals_at + 2u * (first + part * ${queries}u)]); }
    of_lanes[thread] = vec2<f32>(largest, 0.0);
    workgroupBarrier();
    for (var i = 0u; i < ${threads}u; i++) { largest = max(largest, of_lanes[i].x); }
    var total = 0.0;
    ${repeat(own, (i) => `var y_${i} = vec4<f32>();`)}
    for (var part = lane; part < used; part += ${lanes}u) {
      let at = first + part * ${queries}u;
      let weight = exp2(totals[p.totals_at + 2u * at] - largest);
      total += weight * totals[p.totals_at + 2u * at + 1u];
      ${repeat(own, (i) => `y_${i} += weight * sums[p.sums_at + at * ${team * own}u + ${i * team}u + share];`)}
    }
    workgroupBarrier();
    of_lanes[thread] = vec2<f32>(0.0, total);
    let row = ${rowOf('r', group)};
    ${repeat(
      own,
      (i) => `
    shares[thread] = y_${i};
    workgroupBarrier();
    if (lane == 0u) {
      var sum = shares[thread];
      var all = of_lanes[thread].y;
      for (var other = 1u; other < ${lanes}u; other++) { sum += shares[thread + other * ${team}u]; all += of_lanes[thread + other * ${team}u].y; }
      let of_row = sum / all;
      y_put(row, ${i * team}u + share, ${converted});
      ${has('logSums') && i === 0 ? `if (share == 0u) { logSums[p.logSums_at + (b * p.heads + row % p.heads) * p.length + r / ${group}u] = largest * ${Math.LN2} + log(all); }` : ''}
    }
    workgroupBarrier();`,
    )}
  }`,
  };
}
