import { subgroupSize, type GpuDispatch } from '../../../tensor/index.js';
import { wgslMath } from '../../../wgsl/math.js';
import { teamSum } from '../../../wgsl/rows.js';
import { repeat, saturated } from '../../../wgsl/vectors.js';
import { convolution, enterBuffers } from './enter-parts.js';
import { channelsIn, paddedBatch, threads, type BlockLaunch } from './extents.js';

/** Rows, columns and depth of a matrix; sequences and channels of a workgroup. */
const side = 16;
const subgroups = 8;
/** Threads that share a row of the norm. */
const team = threads / side;
/** Fewer are a group of `enter`. */
const leastBatch = 5;

/** Vectors of eight halves from one normed row to the next: one more than a row has keeps banks apart. */
const pitchOf = (width: number) => width / 8 + 1;
/** Vectors of four sums: of a matrix, of x and z, and of those of each subgroup. */
const matrixVectors = (side * side) / 4;
const ownVectors = 2 * matrixVectors;
const sumVectors = subgroups * ownVectors;

/** Whether matrix units can and should do the products: in f16, with extents that are whole matrices. */
export function takesMatrices({ gpu, parameters, dtype }: BlockLaunch): boolean {
  const { batch, width, channels, rank, stateSize } = parameters;
  const halves = dtype('inProj') === 'f16' && dtype('xProj') === 'f16';
  const units = gpu.matrices && subgroupSize(gpu) === threads / subgroups;
  const whole = width % (subgroups * side) === 0 && (rank + 2 * stateSize) % side === 0 && channelsIn(channels) === side;
  const bytes = 16 * Math.max(side * pitchOf(width), sumVectors) + 4 * 3 * side * side;
  return halves && units && whole && batch >= leastBatch && bytes <= gpu.workgroupBytes;
}

/** Invocations of a subgroup. */
const size = threads / subgroups;

/** `enter` for 16 sequences at a time on matrix units, whose subgroups share the depth of the products. */
export function enterMatrices(launch: BlockLaunch): GpuDispatch {
  const { batch, width, xParts, channels, taps, rank, stateSize } = launch.parameters;
  return {
    variant: `enter matrices ${[width, xParts, channels, taps, rank + 2 * stateSize].join(' ')}`,
    buffers: enterBuffers(launch),
    numbers: { padded: paddedBatch(batch) },
    workgroups: [channels / side, Math.ceil(batch / side)],
    code: () => enterCode(launch),
  };
}

function enterCode(launch: BlockLaunch): string {
  const { gpu, parameters } = launch;
  const { width } = parameters;
  const project = projection(width);
  return `
      ${wgslMath}
      ${teamSum(gpu, 'total', team, threads)}
      // Normed rows in halves; then the sums of all subgroups.
      var<workgroup> memory: array<vec4<u32>, ${Math.max(side * pitchOf(width), sumVectors)}>;
      // x and z [sequence, channel], and u in halves.
      var<workgroup> xz: array<vec4<f32>, ${ownVectors}>;
      var<workgroup> u: array<f16, ${side * side}>;
      @compute @workgroup_size(${threads})
      fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
        let subgroup = thread / ${size}u;
        let sequence = thread / ${team}u;
        let member = thread % ${team}u;
        // Threads beyond the last sequence norm that one again.
        let live = id.y * ${side}u + sequence < p.batch;
        let b = min(id.y * ${side}u + sequence, p.batch - 1u);
        let channel = id.x * ${side}u;
        ${project.ahead}

        // The norm.
        ${norm(launch)}
        workgroupBarrier();

        // x and z.
        ${project.product}
        workgroupBarrier();

        // u, and the state moved on: a channel of a sequence each. Where there is no sequence u stays zero.
        ${convolve(launch)}
        workgroupBarrier();

        // Their part of x_proj, for the padding too.
        ${select(launch)}
      }`;
}

/** Loads a matrix of a weight whose rows are the columns of the product. */
const right = (name: string, row: string, depth: string, pitch: string): string =>
  `subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, col_major>(&${name}, p.${name}_at + ((${row}) * ${pitch} + ${depth}) / 8u, ${pitch} / 8u)`;

/** Puts the normed rows into workgroup memory, in halves: x in all its parts and the residual, by their norm. */
function norm({ parameters: { width, xParts }, has }: BlockLaunch): string {
  const octets = width / 8;
  const turns = octets / team;
  return `var squares = 0.0;
        ${repeat(
          turns,
          (t) => `
        let octet${t} = member + ${t * team}u;
        let at${t} = (b * ${octets}u + octet${t}) * 2u;
        var low${t} = ${has('residual') ? `vec4<f32>(residual[p.residual_at + at${t}])` : 'vec4<f32>()'};
        var high${t} = ${has('residual') ? `vec4<f32>(residual[p.residual_at + at${t} + 1u])` : 'vec4<f32>()'};
        ${repeat(xParts, (part) => {
          const index = `p.x_at + ${part * 2 * octets}u * p.batch + at${t}`;
          return `low${t} += vec4<f32>(x[${index}]); high${t} += vec4<f32>(x[${index} + 1u]);`;
        })}
        ${has('sum') ? `if (id.x == 0u && live) { sum[p.sum_at + at${t}] = low${t}; sum[p.sum_at + at${t} + 1u] = high${t}; }` : ''}
        squares += dot(low${t}, low${t}) + dot(high${t}, high${t});`,
        )}
        let scale = inverseSqrt(total(thread, squares) / ${width}.0 + p.epsilon);
        ${repeat(
          turns,
          (t) => `{
          let low = low${t} * scale * normWeight[p.normWeight_at + 2u * octet${t}];
          let high = high${t} * scale * normWeight[p.normWeight_at + 2u * octet${t} + 1u];
          memory[sequence * ${pitchOf(width)}u + octet${t}] =
            vec4<u32>(pack2x16float(low.xy), pack2x16float(low.zw), pack2x16float(high.xy), pack2x16float(high.zw));
        }`,
        )}`;
}

/** `xz`, the product of in_proj, to whose depth each subgroup adds a part; the weights are asked for first. */
function projection(width: number): { ahead: string; product: string } {
  const steps = width / subgroups / side;
  const depth = (s: number) => `subgroup * ${steps * side}u + ${s * side}u`;
  return {
    ahead: repeat(steps, (s) => `
        let x_weight${s} = ${right('inProj', 'channel', depth(s), `${width}u`)};
        let z_weight${s} = ${right('inProj', 'p.channels + channel', depth(s), `${width}u`)};`),
    product: `var x_sum = subgroup_matrix_result<f32, 16, 16>();
        var z_sum = subgroup_matrix_result<f32, 16, 16>();
        ${repeat(steps, (s) => `{
          let left = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&memory, (${depth(s)}) / 8u, ${pitchOf(width)}u);
          x_sum = subgroupMatrixMultiplyAccumulate(left, x_weight${s}, x_sum);
          z_sum = subgroupMatrixMultiplyAccumulate(left, z_weight${s}, z_sum);
        }`)}
        workgroupBarrier();
        subgroupMatrixStore<row_major>(&memory, subgroup * ${ownVectors}u, x_sum, ${side / 4}u);
        subgroupMatrixStore<row_major>(&memory, subgroup * ${ownVectors}u + ${matrixVectors}u, z_sum, ${side / 4}u);
        workgroupBarrier();
        if (thread < ${ownVectors}u) {
          var all = bitcast<vec4<f32>>(memory[thread]);
          ${repeat(subgroups - 1, (s) => `all += bitcast<vec4<f32>>(memory[thread + ${(s + 1) * ownVectors}u]);`)}
          xz[thread] = all;
        }`,
  };
}

/** Makes u of a channel of a sequence, and stores it with z. */
function convolve(launch: BlockLaunch): string {
  const conv = convolution(launch);
  return `if (live) {
          let e = channel + member;
          let newest = xz[thread / 4u][thread % 4u];
          ${conv.value}
          ${conv.move}
          u[thread] = ${saturated(1, 'f16', 'value')};
          inner[p.inner_at + b * 2u * p.channels + e] = value;
          inner[p.inner_at + (b * 2u + 1u) * p.channels + e] = xz[(${side * side}u + thread) / 4u][thread % 4u];
        }`;
}

/** The part of x_proj of the workgroup's channels: subgroups take tiles of 16 rows in turn. */
function select({ parameters: { rank, stateSize } }: BlockLaunch): string {
  const selected = rank + 2 * stateSize;
  return `let u_matrix = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&u, 0u, ${side}u);
        for (var tile = subgroup; tile < ${selected / side}u; tile += ${subgroups}u) {
          let weight = ${right('xProj', `tile * ${side}u`, 'channel', 'p.channels')};
          let product = subgroupMatrixMultiplyAccumulate(u_matrix, weight, subgroup_matrix_result<f32, 16, 16>());
          let place = 2u * p.channels * p.batch + (id.x * p.padded + id.y * ${side}u) * ${selected}u + tile * ${side}u;
          subgroupMatrixStore<row_major>(&inner, p.inner_at + place, product, ${selected}u);
        }`;
}
