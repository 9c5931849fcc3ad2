/**
 * A few queries after many positions, as in decoding: pages are shared out over workgroups, since queries are too few for a GPU. How many
 * positions there are is known on the device only; workgroups beyond them have nothing to do.
 */
import { fold, type GpuBinding, type GpuDispatch, type GpuLaunch, type GpuWork } from '../../../tensor/index.js';
import { teamSum } from '../../../wgsl/rows.js';
import { gather, laneOf, repeat, saturated, vectorOf } from '../../../wgsl/vectors.js';
import { pageLength } from '../reference.js';
import type { ForwardBuffers, ForwardParameters } from './forward.js';
import { lowest } from './forward-rows.js';
import { eights } from './matrices.js';
import { headRows, placesCode, placesOf } from './places.js';

const threads = 128;
/** Workgroups that keep a large GPU busy. */
const busy = 1024;
/** Vectors of four of queries that an invocation keeps. */
const mostVectors = 16;
/** Loads of keys that an invocation has on their way at once, and as many of values. A power of two. */
const ahead = 4;

interface Layout {
  /** Queries that share a head of keys. */
  readonly queries: number;
  /** Whether keys and values are halves that can be loaded eight at a time; else four numbers are. */
  readonly eights: boolean;
  /** Neighbouring invocations that share a key, and the loads of each for it, and the vectors of four that these are. */
  readonly team: number;
  readonly own: number;
  readonly fours: number;
  readonly parts: number;
}

function layOut({ parameters, dtype, aligned }: GpuLaunch<ForwardBuffers, ForwardParameters>): Layout {
  const { batch, length, heads, kvHeads, size, pagesPerRow, kPitch, vPitch } = parameters;
  const eights = dtype('k') === 'f16' && dtype('v') === 'f16' && [size, kPitch, vPitch].every((extent) => extent % 8 === 0) && aligned(8, 'k', 'v');
  const queries = length * (heads / kvHeads);
  const loads = Math.ceil(size / (eights ? 8 : 4));
  const formOf = (most: number) => {
    const team = 2 ** Math.ceil(Math.log2(Math.min(most, loads)));
    const own = Math.ceil(loads / team);
    return { team, own, fours: (eights ? 2 : 1) * own };
  };
  // A product is summed over a team: the fewer share it, the better, if their registers have room.
  const form = [8, 16].map(formOf).find(({ fours }) => queries * fours <= mostVectors) ?? formOf(16);
  const parts = Math.max(1, Math.min(pagesPerRow, Math.ceil(busy / Math.max(1, batch * kvHeads))));
  return { queries, eights, ...form, parts };
}

/** How keys or values are loaded, and the vectors of four in registers that a load gives. */
interface CacheRows {
  readonly binding: GpuBinding;
  readonly read: string;
  load(row: string, unit: string): string;
  /** Vector `i` of the loads `<name>_<n>`. */
  four(name: string, i: number): string;
}

function cacheRows(launch: GpuLaunch<ForwardBuffers, ForwardParameters>, name: 'k' | 'v', byEights: boolean): CacheRows {
  const pitch = launch.parameters[`${name}Pitch`];
  if (!byEights) {
    const { binding, read } = headRows(launch, name, [`p.${name}Pitch`, pitch]);
    return { binding, read, load: (row, unit) => `${name}_four(${row}, ${unit})`, four: (of, i) => `${of}_${i}` };
  }
  const { binding, read } = eights(name, 'f16', `p.${name}Pitch`);
  const halves = launch.parameters.size / 8;
  const bounded = `
  fn ${name}_within(row: u32, c: u32) -> vec4<u32> {
    if (c < ${halves}u) { return ${name}_eight(row, c); }
    return vec4<u32>();
  }`;
  return {
    binding,
    read: `${read} ${bounded}`,
    load: (row, unit) => `${name}_within(${row}, ${unit})`,
    four: (of, i) => (i & 1 ? `vec4<f32>(unpack2x16float(${of}_${i >> 1}.z), unpack2x16float(${of}_${i >> 1}.w))` : `vec4<f32>(unpack2x16float(${of}_${i >> 1}.x), unpack2x16float(${of}_${i >> 1}.y))`),
  };
}

/** Whether there are few enough queries. */
export function areFew(launch: GpuLaunch<ForwardBuffers, ForwardParameters>): boolean {
  const { queries, fours } = layOut(launch);
  return launch.parameters.pagesPerRow > 0 && queries <= 8 && queries * fours <= mostVectors;
}

export function fewQueries(launch: GpuLaunch<ForwardBuffers, ForwardParameters>): GpuWork {
  const layout = layOut(launch);
  const { batch, kvHeads } = launch.parameters;
  const { parts, queries, team, fours } = layout;
  const first = pagesDispatch(launch, layout);
  if (parts === 1) return { dispatches: [first] };
  const rows = batch * kvHeads * parts * queries;
  return {
    dispatches: [first, combination(launch, layout)],
    scratch: { sums: { dtype: 'f32', size: rows * 4 * team * fours }, totals: { dtype: 'f32', size: 2 * rows } },
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

function pagesDispatch(launch: GpuLaunch<ForwardBuffers, ForwardParameters>, { queries, team, eights, own, fours, parts }: Layout): GpuDispatch {
  const { gpu, parameters, has, dtype } = launch;
  const { batch, heads, kvHeads, size } = parameters;
  const group = heads / kvHeads;
  const q = headRows(launch, 'q', ['p.qPitch', parameters.qPitch]);
  const [keys, values] = [cacheRows(launch, 'k', eights), cacheRows(launch, 'v', eights)];
  const y = headRows(launch, 'y', ['p.size', size]);
  const keysAtOnce = threads / team;
  const turns = Math.max(1, pageLength / keysAtOnce);
  const together = Math.min(turns, Math.max(1, ahead / 2 ** Math.ceil(Math.log2(own))));
  // Products of four queries are summed together, of one by themselves.
  const summed = queries === 1 ? 1 : 4;
  const padded = summed * Math.ceil(queries / summed);
  const eachQuery = (statement: (r: number) => string) => repeat(queries, statement);
  const eachFour = (statement: (i: number) => string) => repeat(fours, statement);
  const unitAt = (i: number) => `${i * team}u + share`;
  const column = (i: number) => (eights ? `2u * (${unitAt(i >> 1)}) + ${i & 1}u` : unitAt(i));
  const whole = parts === 1;
  const numbered = has('logSums') && whole;
  const converted = dtype('y') === 'f16' ? `vec4<f32>(${saturated(4, 'f16', 'of_row')})` : 'of_row';
  return {
    variant: `few ${queries} ${group} ${size}${eights ? ' eights' : ''}${whole ? '' : ' parts'}`,
    buffers: [q.binding, keys.binding, values.binding, ...placesOf(launch), ...(whole ? [y.binding, ...(numbered ? ['logSums'] : [])] : [{ name: 'sums', as: 'vec4<f32>' }, 'totals'])],
    numbers: { units: batch * kvHeads, parts },
    workgroups: fold(batch * kvHeads * parts),
    code: () => `
  ${placesCode(launch)} ${q.read} ${keys.read} ${values.read} ${whole ? y.write : ''}
  ${teamSum(gpu, 'team_sum', team, threads, vectorOf(summed))}
  var<workgroup> largest_of_teams: array<f32, ${queries * keysAtOnce}>;
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
    ${eachFour((i) => `let q_${r}_${i} = factor * q_four(row_${r}, ${column(i)}); var y_${r}_${i} = vec4<f32>();`)}
    var largest_${r} = ${lowest};
    var total_${r} = 0.0;`,
    )}
    let rows_of_sequence = p.pages_at + b * p.pagesPerRow;
    let last_page = first_page + page_count - 1u;
    var next_page = pages[rows_of_sequence + first_page + part];
    for (var page = first_page + part; page <= last_page; page += p.parts) {
      let first = page * ${pageLength}u;
      let first_row = u32(next_page) * (${pageLength}u * p.kvHeads) + head;
      next_page = pages[rows_of_sequence + min(page + p.parts, last_page)];
      for (var turn = 0u; turn < ${turns}u; turn += ${together}u) {
        // All loads come first. Of rows that nobody has written the page still has memory; what they hold goes nowhere.
        ${repeat(
          together,
          (n) => `
        let in_page_${n} = (turn + ${n}u) * ${keysAtOnce}u + lane;
        let j_${n} = first + in_page_${n};
        let key_${n} = first_row + min(in_page_${n}, ${pageLength - 1}u) * p.kvHeads;
        ${repeat(own, (i) => `let k_${n}_${i} = ${keys.load(`key_${n}`, unitAt(i))}; let v_${n}_${i} = ${values.load(`key_${n}`, unitAt(i))};`)}`,
        )}
        ${repeat(together, (n) =>
          repeat(padded / summed, (some) => {
            const product = (r: number) => (r >= queries ? '0.0' : Array.from({ length: fours }, (_, i) => `dot(q_${r}_${i}, ${keys.four(`k_${n}`, i)})`).join(' + '));
            return `
        let products_${n}_${some} = team_sum(thread, ${gather(summed, (i) => product(summed * some + i))});
        ${Array.from({ length: Math.min(summed, queries - summed * some) }, (_, i) => {
          const r = summed * some + i;
          const seen = `j_${n} >= earliest_${r} && j_${n} <= own_${r}${keysAtOnce > pageLength ? ` && in_page_${n} < ${pageLength}u` : ''}`;
          return `let score_${r}_${n} = select(${lowest}, ${laneOf(summed, `products_${n}_${some}`, i)}, ${seen});`;
        }).join(' ')}`;
          }),
        )}
        ${eachQuery(
          (r) => `
        {
          let most = ${Array.from({ length: together }, (_, n) => `score_${r}_${n}`).reduce((a, b) => `max(${a}, ${b})`, `largest_${r}`)};
          let shrink = exp2(largest_${r} - most);
          largest_${r} = most;
          total_${r} *= shrink;
          ${eachFour((i) => `y_${r}_${i} *= shrink;`)}
        }`,
        )}
        ${repeat(together, (n) =>
          eachQuery(
            (r) => `
        if (score_${r}_${n} > ${lowest}) {
          let weight = exp2(score_${r}_${n} - largest_${r});
          total_${r} += weight;
          ${eachFour((i) => `y_${r}_${i} += weight * ${values.four(`v_${n}`, i)};`)}
        }`,
          ),
        )}
      }
    }
    // Each team has a largest score of its own so far.
    if (share == 0u) { ${eachQuery((r) => `largest_of_teams[${r * keysAtOnce}u + lane] = largest_${r};`)} }
    workgroupBarrier();
    ${eachQuery(
      (r) => `
    {
      var most = largest_${r};
      for (var other = 0u; other < ${keysAtOnce}u; other++) { most = max(most, largest_of_teams[${r * keysAtOnce}u + other]); }
      let shrink = exp2(largest_${r} - most);
      largest_${r} = most;
      total_${r} *= shrink;
      ${eachFour((i) => `y_${r}_${i} *= shrink;`)}
    }`,
    )}
    ${eachQuery(
      (r) => `
    {
      shares_of_total[thread] = total_${r};
      ${eachFour(
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
        sums[p.sums_at + to * ${team * fours}u + ${column(i)}] = sum;
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
function combination(launch: GpuLaunch<ForwardBuffers, ForwardParameters>, { queries, team, fours, parts }: Layout): GpuDispatch {
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
    ${repeat(fours, (i) => `var y_${i} = vec4<f32>();`)}
    for (var part = lane; part < used; part += ${lanes}u) {
      let at = first + part * ${queries}u;
      let weight = exp2(totals[p.totals_at + 2u * at] - largest);
      total += weight * totals[p.totals_at + 2u * at + 1u];
      ${repeat(fours, (i) => `y_${i} += weight * sums[p.sums_at + at * ${team * fours}u + ${i * team}u + share];`)}
    }
    workgroupBarrier();
    of_lanes[thread] = vec2<f32>(0.0, total);
    let row = ${rowOf('r', group)};
    ${repeat(
      fours,
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
