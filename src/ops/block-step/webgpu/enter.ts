import type { GpuDispatch } from '../../../tensor/index.js';
import { wgslMath } from '../../../wgsl/math.js';
import { teamSum } from '../../../wgsl/rows.js';
import { gather, laneOf, repeat } from '../../../wgsl/vectors.js';
import { convolution, enterBuffers } from './enter-parts.js';
import { channelsIn, paddedBatch, threads, type BlockLaunch } from './extents.js';
import { wide, wideDot } from './wide.js';

/** Bytes of workgroup memory, with what sums without subgroups take. */
function memoryOf(sequences: number, width: number, own: number): number {
  const each = sequences === 1 ? 4 : 16;
  return 4 * sequences * (width + own) + each * (2 * own + 2 * threads);
}

/** Weights that a thread asks for at once, 16 bytes each. */
const ahead = 16;

/**
 * Norm, in_proj, convolution, and a part of x_proj: x, z and u of some channels, of up to 4 sequences, which share what is read of
 * the weights. All that does not wait for the norm is asked for before it.
 */
export function enter(launch: BlockLaunch): GpuDispatch {
  const { gpu, parameters } = launch;
  const { batch, width, xParts, channels, taps, rank, stateSize } = parameters;
  const own = channelsIn(channels);
  const sequences = [4, 3, 2].find((count) => count <= batch && memoryOf(count, width, own) <= gpu.workgroupBytes) ?? 1;
  return {
    variant: `enter ${[width, xParts, channels, taps, sequences].join(' ')}`,
    buffers: enterBuffers(launch),
    numbers: { selected: rank + 2 * stateSize, padded: paddedBatch(batch) },
    workgroups: [channels / own, Math.ceil(batch / sequences)],
    code: () => enterCode(launch, own, sequences),
  };
}

/** WGSL's type of a number for each sequence. */
const typeOf = (sequences: number): string => (sequences === 1 ? 'f32' : 'vec4<f32>');

function enterCode(launch: BlockLaunch, own: number, sequences: number): string {
  const { gpu, parameters, dtype } = launch;
  const { width } = parameters;
  const type = typeOf(sequences);
  const shares = threads / (2 * own);
  const { lanes } = wide(dtype('inProj'));
  const project = projection(launch, shares, sequences);
  const select = selection(launch, own, sequences);
  return `
      ${wgslMath}
      ${teamSum(gpu, 'total', threads, threads, type)}
      ${teamSum(gpu, 'shared_total', shares, threads, type)}
      // Of each sequence the vectors that go with the first four of eight weights, then those that go with the others: no banks are shared.
      var<workgroup> normed: array<vec4<f32>, ${(sequences * width) / 4}>;
      // Of the channels, for each sequence.
      var<workgroup> xz: array<${type}, ${2 * own}>;
      var<workgroup> u_of: array<f32, ${sequences * own}>;
      @compute @workgroup_size(${threads})
      fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
        let first = id.y * ${sequences}u;
        let last_sequence = p.batch - 1u;
        let channel = id.x * ${own}u;
        let output = thread / ${shares}u;
        let share = thread % ${shares}u;
        let row = channel + output + select(0u, p.channels - ${own}u, output >= ${own}u);
        let at = p.inProj_at + row * ${width / lanes}u;
        ${project.ahead}
        ${select.ahead}

        // The norm.
        ${norm(launch, sequences, lanes)}
        workgroupBarrier();

        // x and z.
        ${project.product}
        let projected = shared_total(thread, product);
        if (share == 0u) { xz[output] = projected; }
        workgroupBarrier();

        // u, and the state moved on.
        ${convolve(launch, own, sequences)}
        workgroupBarrier();
        ${select.product}
      }`;
}

/** `product`, a thread's share of an output of in_proj for each sequence, and the weights for it that are asked for first. */
function projection({ parameters: { width }, dtype }: BlockLaunch, shares: number, sequences: number): { ahead: string; product: string } {
  const weight = dtype('inProj');
  const { lanes } = wide(weight);
  const quads = width / 4;
  const loads = Math.ceil(width / lanes / shares);
  const chunks = Math.ceil(loads / ahead);
  const chunk = Math.ceil(loads / chunks);
  /** Index of the vector that is load i of a row. */
  const vector = (i: number) => `share + ${i * shares}u`;
  const exact = width % (lanes * shares) === 0;
  const last = `${width / lanes - 1}u`;
  const chunkOf = (k: number) => Array.from({ length: Math.min(chunk, loads - k * chunk) }, (_, i) => k * chunk + i);
  const load = (k: number) =>
    chunkOf(k).map((i) => `let w${i} = inProj[at + ${exact ? vector(i) : `min(${vector(i)}, ${last})`}];`).join('\n');
  const multiply = (k: number) =>
    chunkOf(k)
      .map((i) => {
        const values = (s: number) => (j: number) => `normed[${s * quads + (j * width) / lanes}u + ${vector(i)}]`;
        const terms = repeat(sequences, (s) => `${laneOf(sequences, 'product', s)} += ${wideDot(weight, `w${i}`, values(s))};`);
        return exact ? terms : `if (${vector(i)} <= ${last}) { ${terms} }`;
      })
      .join('\n');
  return {
    ahead: load(0),
    product: `var product = ${typeOf(sequences)}();
        ${Array.from({ length: chunks }, (_, k) => `${k === 0 ? '' : load(k)}\n${multiply(k)}`).join('\n')}`,
  };
}

/** Puts the normed rows into workgroup memory: x in all its parts and the residual, which one workgroup stores, by their norm. */
function norm({ parameters: { width, xParts }, has }: BlockLaunch, sequences: number, lanes: 4 | 8): string {
  const quads = width / 4;
  const turns = Math.ceil(quads / threads);
  const of = (name: string, s: number) => laneOf(sequences, name, s);
  const add = (s: number, t: number) => `
        var n${s}_${t} = vec4<f32>();
        {
          let quad = thread + ${t * threads}u;
          let b = min(first + ${s}u, last_sequence);
          if (quad < ${quads}u) {
            ${repeat(xParts, (part) => `let part${part} = vec4<f32>(x[p.x_at + (${part}u * p.batch + b) * ${quads}u + quad]);`)}
            ${has('residual') ? `let before = vec4<f32>(residual[p.residual_at + b * ${quads}u + quad]);` : ''}
            var added = part0;
            ${repeat(xParts - 1, (part) => `added += part${part + 1};`)}
            ${has('residual') ? 'added += before;' : ''}
            ${has('sum') ? `if (id.x == 0u && first + ${s}u <= last_sequence) { sum[p.sum_at + b * ${quads}u + quad] = added; }` : ''}
            n${s}_${t} = added;
            ${of('squares', s)} += dot(added, added);
          }
        }`;
  return `var squares = ${typeOf(sequences)}();
        ${repeat(sequences, (s) => repeat(turns, (t) => add(s, t)))}
        let scale = inverseSqrt(total(thread, squares) / ${width}.0 + p.epsilon);
        ${repeat(
          turns,
          (t) => `
        if (thread + ${t * threads}u < ${quads}u) {
          let quad = thread + ${t * threads}u;
          let gain = normWeight[p.normWeight_at + quad];
          let place = ${lanes === 4 ? 'quad' : `quad / 2u + quad % 2u * ${quads / 2}u`};
          ${repeat(sequences, (s) => `normed[${s * quads}u + place] = n${s}_${t} * ${of('scale', s)} * gain;`)}
        }`,
        )}`;
}

/** Makes u of a channel of each sequence, and stores it with z. */
function convolve(launch: BlockLaunch, own: number, sequences: number): string {
  const conv = convolution(launch);
  return repeat(
    sequences,
    (s) => `
        if (thread < ${own}u && first + ${s}u <= last_sequence) {
          let b = first + ${s}u;
          let e = channel + thread;
          let newest = ${laneOf(sequences, 'xz[thread]', s)};
          ${conv.value}
          ${conv.move}
          inner[p.inner_at + b * 2u * p.channels + e] = value;
          inner[p.inner_at + (b * 2u + 1u) * p.channels + e] = ${laneOf(sequences, `xz[${own}u + thread]`, s)};
          u_of[${s * own}u + thread] = value;
        }`,
  );
}

/** The part of x_proj of the workgroup's channels, a row a thread, and the weights for it, which are asked for first. */
function selection({ dtype }: BlockLaunch, own: number, sequences: number): { ahead: string; product: string } {
  const weight = dtype('xProj');
  const { lanes } = wide(weight);
  const loads = own / lanes;
  return {
    ahead: `let selects = min(thread, p.selected - 1u);
        let xProj_row = p.xProj_at + (selects * p.channels + channel) / ${lanes}u;
        ${repeat(loads, (i) => `let v${i} = xProj[xProj_row + ${i}u];`)}`,
    product: `if (thread < p.selected) {
          ${repeat(sequences, (s) => {
            const values = (i: number) => (j: number) => gather(4, (lane) => `u_of[${s * own + i * lanes + 4 * j + lane}u]`);
            return `
          if (first + ${s}u <= last_sequence) {
            let place = 2u * p.channels * p.batch + (id.x * p.padded + first + ${s}u) * p.selected + thread;
            inner[p.inner_at + place] = ${Array.from({ length: loads }, (_, i) => wideDot(weight, `v${i}`, values(i))).join(' + ')};
          }`;
          })}
        }`,
  };
}
