import type { GpuDispatch } from '../../../tensor/index.js';
import { wgslMath } from '../../../wgsl/math.js';
import { teamSum } from '../../../wgsl/rows.js';
import { gather, repeat, saturated, vectorOf } from '../../../wgsl/vectors.js';
import { channelsIn, channelsOut, paddedBatch, threads, type BlockLaunch } from './extents.js';
import { wide, wideDot } from './wide.js';

/** Threads that share a channel, each with 4 states. */
const group = 4;
/** Numbers of x_proj that a thread asks for at once, each of another workgroup. */
const slicesAhead = 8;
/** Turns of out_proj whose sums are in workgroup memory at a time, and how many of those are asked for at the very start. */
const turnsOfChunk = 12;
const chunksAhead = 2;

/** Δ, the step of the state, the gate, and a part of out_proj where it is given: of some channels of a sequence. */
export function leave({ gpu, parameters, dtype, has }: BlockLaunch): GpuDispatch {
  const { batch, width, channels, rank, stateSize } = parameters;
  const selected = rank + 2 * stateSize;
  const slices = channels / channelsIn(channels);
  const teams = Math.floor(threads / selected);
  const perLoop = slicesAhead * teams;
  const lanes = rank % 4 === 0 ? 4 : 1;
  const dtLoads = Math.ceil(rank / lanes / group);
  const dtIndex = (i: number) => `share + ${String(i * group)}u`;
  const dtValues = (i: number) => gather(lanes, (lane) => `chosen[${String(lanes)}u * (${dtIndex(i)}) + ${String(lane)}u]`);
  /** B or C of the thread's states. */
  const ofStates = (start: number) => gather(4, (lane) => `chosen[${String(start)}u + 4u * share + ${String(lane)}u]`);
  const out = has('outProj') ? outProduct(width, dtype('outProj')) : null;
  return {
    variant: `leave ${[width, channels, rank].join(' ')}`,
    buffers: [
      { name: 'inner', access: 'read' },
      { name: 'dtProj', as: vectorOf(lanes, dtype('dtProj')) },
      'dtBias',
      { name: 'A', as: 'vec4<f32>' },
      'D',
      { name: 'ssmState', as: 'vec4<f32>' },
      ...(out ? [{ name: 'outProj', as: wide(dtype('outProj')).as }] : []),
      'y',
    ],
    numbers: { padded: paddedBatch(batch) },
    workgroups: [channels / channelsOut, batch],
    code: () => `
      ${wgslMath}
      ${teamSum(gpu, 'total', group, threads)}
      var<workgroup> sums: array<f32, ${String(teams * selected)}>;
      // dt, B and C of this sequence.
      var<workgroup> chosen: array<f32, ${String(selected)}>;
      ${out?.declarations ?? ''}
      @compute @workgroup_size(${String(threads)})
      fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
        let b = id.y;
        let share = thread % ${String(group)}u;
        let e = id.x * ${String(channelsOut)}u + thread / ${String(group)}u;
        ${out?.ahead ?? ''}
        let dtProj_row = p.dtProj_at + e * ${String(rank / lanes)}u;
        ${repeat(dtLoads, (i) => `let w${String(i)} = ${vectorOf(lanes)}(dtProj[dtProj_row + min(${dtIndex(i)}, ${String(rank / lanes - 1)}u)]);`)}
        let place = p.ssmState_at + (b * p.channels + e) * 4u + share;
        let before = ssmState[place];
        let A4 = A[p.A_at + e * 4u + share];
        let input = inner[p.inner_at + b * 2u * p.channels + e];
        let z = inner[p.inner_at + (b * 2u + 1u) * p.channels + e];
        let bias = dtBias[p.dtBias_at + e];
        let skip = D[p.D_at + e];

        if (thread < ${String(teams * selected)}u) {
          let at = p.inner_at + 2u * p.channels * p.batch + b * ${String(selected)}u + thread % ${String(selected)}u;
          let pitch = p.padded * ${String(selected)}u;
          var sum = 0.0;
          for (var slice = thread / ${String(selected)}u; slice < ${String(slices)}u; slice += ${String(perLoop)}u) {
            ${repeat(slicesAhead, (i) => {
              const index = `slice + ${String(i * teams)}u`;
              return slices % perLoop === 0
                ? `let v${String(i)} = inner[at + (${index}) * pitch];`
                : `let v${String(i)} = select(0.0, inner[at + min(${index}, ${String(slices - 1)}u) * pitch], ${index} < ${String(slices)}u);`;
            })}
            sum += ${Array.from({ length: slicesAhead }, (_, i) => `v${String(i)}`).join(' + ')};
          }
          sums[thread] = sum;
        }
        workgroupBarrier();
        if (thread < ${String(selected)}u) {
          chosen[thread] = ${Array.from({ length: teams }, (_, i) => `sums[thread + ${String(i * selected)}u]`).join(' + ')};
        }
        workgroupBarrier();
        var dt = 0.0;
        ${repeat(dtLoads, (i) => {
          const term = lanes === 1 ? `w${String(i)} * ${dtValues(i)}` : `dot(w${String(i)}, ${dtValues(i)})`;
          return (i + 1) * group * lanes <= rank ? `dt += ${term};` : `if (${dtIndex(i)} < ${String(rank / lanes)}u) { dt += ${term}; }`;
        })}
        let delta = softplus(total(thread, dt) + bias);
        // Below −100 the exponential is zero in float32 anyway.
        let h = exp(max(delta * A4, vec4<f32>(-100.0))) * before + (delta * input) * ${ofStates(rank)};
        ssmState[place] = h;
        let scanned = total(thread, dot(h, ${ofStates(rank + stateSize)}));
        let gated = (scanned + skip * input) * silu(z);
        ${
          out?.body ??
          `if (share == 0u) { y[p.y_at + b * p.channels + e] = ${saturated(1, dtype('y') ?? 'f32', 'gated')}; }`
        }
      }`,
  };
}

/** The product of a workgroup's channels of out_proj and what they give. */
function outProduct(width: number, dtype: string | undefined): { declarations: string; ahead: string; body: string } {
  const { lanes } = wide(dtype);
  const rowLanes = channelsOut / lanes;
  const rowsOfTurn = threads / rowLanes;
  const turns = Math.ceil(width / rowsOfTurn);
  const chunks = Math.ceil(turns / turnsOfChunk);
  const rowsOfChunk = Math.min(turns, turnsOfChunk) * rowsOfTurn;
  // The threads of 32 write to as many banks.
  const pitch = rowsOfChunk + 32 / rowLanes;
  const turnsOf = (chunk: number) =>
    Array.from({ length: Math.min(turnsOfChunk, turns - chunk * turnsOfChunk) }, (_, i) => chunk * turnsOfChunk + i);
  const load = (chunk: number) =>
    turnsOf(chunk).map((turn) => {
      const row = `out_row + ${String(turn * rowsOfTurn)}u`;
      const clamped = (turn + 1) * rowsOfTurn <= width ? `(${row})` : `min(${row}, ${String(width - 1)}u)`;
      return `let o${String(turn)} = outProj[out_at + ${clamped} * (p.channels / ${String(lanes)}u)];`;
    }).join('\n');
  const multiply = (chunk: number) => `
        ${chunk < chunksAhead ? '' : load(chunk)}
        ${chunk === 0 ? '' : 'workgroupBarrier();'}
        ${turnsOf(chunk)
          .map((turn, i) => {
            const values = (j: number) => `own${String(j)}`;
            return `products[out_lane * ${String(pitch)}u + ${String(i * rowsOfTurn)}u + out_row] = ${wideDot(dtype, `o${String(turn)}`, values)};`;
          })
          .join('\n')}
        workgroupBarrier();
        for (var row = thread; row < ${String(Math.min(rowsOfChunk, width - chunk * rowsOfChunk))}u; row += ${String(threads)}u) {
          var sum = products[row];
          ${repeat(rowLanes - 1, (lane) => `sum += products[${String((lane + 1) * pitch)}u + row];`)}
          y[p.y_at + (id.x * p.batch + b) * p.width + ${String(chunk * rowsOfChunk)}u + row] = sum;
        }`;
  return {
    declarations: `
      var<workgroup> gates: array<f32, ${String(channelsOut)}>;
      var<workgroup> products: array<f32, ${String(rowLanes * pitch)}>;`,
    ahead: `
        let out_lane = thread % ${String(rowLanes)}u;
        let out_row = thread / ${String(rowLanes)}u;
        let out_at = p.outProj_at + id.x * ${String(rowLanes)}u + out_lane;
        ${Array.from({ length: Math.min(chunks, chunksAhead) }, (_, chunk) => load(chunk)).join('\n')}`,
    body: `
        if (share == 0u) { gates[thread / ${String(group)}u] = gated; }
        workgroupBarrier();
        ${repeat(lanes / 4, (j) => {
          const values = gather(4, (lane) => `gates[out_lane * ${String(lanes)}u + ${String(4 * j + lane)}u]`);
          return `let own${String(j)} = ${values};`;
        })}
        ${Array.from({ length: chunks }, (_, chunk) => multiply(chunk)).join('\n')}`,
  };
}
