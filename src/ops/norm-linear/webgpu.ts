import { fold, type GpuKernel } from '../../tensor/index.js';
import { fitNormMatrices, normMatrices, normMatrixGroups } from '../../wgsl/norm-matrices.js';
import { gather, lanesFor, lanesOf, repeat, saturated, vectorOf } from '../../wgsl/vectors.js';

/** Every workgroup norms its row anew and reads the weight for that row alone: more rows are better off with a norm of their own. */
export const mostRows = 4;
/** A normed row lies in workgroup memory. */
export const mostColumns = 4096;

const threads = 256;

type NormLinearGpu = GpuKernel<
  'x' | 'residual' | 'normWeight' | 'weight' | 'y' | 'sum',
  'rows' | 'columns' | 'outputs' | 'xPitch' | 'residualPitch' | 'epsilon'
>;

/**
 * A workgroup makes some outputs of one row. Each thread asks for its part of the weight first, and the norm is worked out
 * while that comes.
 */
export const rmsNormLinearGpu: NormLinearGpu = (launch) => {
  const { parameters, dtype, has } = launch;
  const { rows, columns, outputs } = parameters;
  const lanes = lanesOf(launch, [columns], ['weight']);
  const element = vectorOf(lanes, dtype('weight'));
  const depth = columns / lanes;
  // Few loads a thread, all in flight at once.
  const shares = [16, 32, 64, 128, 256].find((count) => depth / count <= 16) ?? 256;
  const loads = Math.ceil(depth / shares);
  const outputsOfGroup = threads / shares;
  const values = Math.ceil(columns / threads);
  return {
    dispatches: [
      {
        variant: `${columns} ${lanes}`,
        buffers: ['x', ...(has('residual') ? ['residual', 'sum'] : []), 'normWeight', { name: 'weight', as: element }, 'y'],
        workgroups: [...fold(Math.ceil(outputs / outputsOfGroup)), rows] as [number, number, number],
        code: () => `
          var<workgroup> normed: array<f32, ${columns}>;
          var<workgroup> sums: array<f32, ${threads}>;
          fn total(thread: u32, value: f32, width: u32) -> f32 {
            sums[thread] = value;
            for (var step = width / 2; step > 0; step /= 2) {
              workgroupBarrier();
              if (thread % width < step) { sums[thread] += sums[thread + step]; }
            }
            workgroupBarrier();
            return sums[thread - thread % width];
          }
          @compute @workgroup_size(${threads})
          fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                  @builtin(local_invocation_index) thread: u32) {
            let row = id.z;
            let output = flat_workgroup(id, count) * ${outputsOfGroup} + thread / ${shares};
            let share = thread % ${shares};
            // Surplus threads read the last output's weights and write nothing.
            let at = p.weight_at + min(output, p.outputs - 1) * ${depth};
            ${repeat(loads, (i) => `let w${i} = weight[at + min(share + ${i * shares}, ${depth - 1}u)];`)}
            var squares = 0.0;
            ${repeat(
              values,
              (i) => `
            let c${i} = thread + ${i * threads};
            var v${i} = 0.0;
            if (c${i} < ${columns}) {
              v${i} = f32(x[p.x_at + row * p.xPitch + c${i}]);
              ${has('residual') ? `v${i} += f32(residual[p.residual_at + row * p.residualPitch + c${i}]);` : ''}
              ${has('residual') ? `if (id.x == 0 && id.y == 0) { sum[p.sum_at + row * ${columns} + c${i}] = v${i}; }` : ''}
            }
            squares += v${i} * v${i};`,
            )}
            let scale = inverseSqrt(total(thread, squares, ${threads}) / ${columns}.0 + p.epsilon);
            ${repeat(
              values,
              (i) => `if (c${i} < ${columns}) {
              normed[c${i}] = v${i} * scale * normWeight[p.normWeight_at + c${i}];
            }`,
            )}
            workgroupBarrier();
            var product = 0.0;
            ${repeat(loads, (i) => {
              const k = `(share + ${i * shares})`;
              const term = lanes === 1 ? `f32(w${i}) * normed[${k}]` : `dot(vec4<f32>(w${i}), vec4<f32>(normed[4 * ${k}], normed[4 * ${k} + 1], normed[4 * ${k} + 2], normed[4 * ${k} + 3]))`;
              return `if (${k} < ${depth}) { product += ${term}; }`;
            })}
            let value = total(thread, product, ${shares});
            if (share == 0 && output < p.outputs) { y[p.y_at + row * p.outputs + output] = ${saturated(1, dtype('y') ?? 'f32', 'value')}; }
          }`,
      },
    ],
  };
};

/** Rows up to which each workgroup of matrix units norms them anew, and rows of the weight: with more there are too many workgroups that do. */
const mostMatrixRows = 32;
const mostMatrixOutputs = 2 ** 14;

/** Whether the product of so many rows is better off on matrix units. */
export const paysOnMatrices = ({ rows, columns, outputs }: { rows: number; columns: number; outputs: number }): boolean =>
  rows > mostRows && rows <= mostMatrixRows && outputs <= mostMatrixOutputs && fitNormMatrices({ columns, outputs });

export const rmsNormLinearMatricesGpu: NormLinearGpu = (launch) => {
  const { gpu, parameters, dtype, has, aligned } = launch;
  const { rows, columns, outputs, xPitch, residualPitch } = parameters;
  const lanes = lanesFor([xPitch, residualPitch], aligned(4, 'x', 'residual'));
  const four = (name: 'x' | 'residual', first: string) =>
    lanes === 4
      ? `vec4<f32>(${name}[p.${name}_at + b * p.${name}Pitch / 4u + ${first} / 4u])`
      : gather(4, (lane) => `f32(${name}[p.${name}_at + b * p.${name}Pitch + ${first} + ${lane}u])`);
  const eight = (name: 'x' | 'residual') => `low += ${four(name, '8u * octet')}; high += ${four(name, '(8u * octet + 4u)')};`;
  return {
    dispatches: [
      {
        variant: `${columns} ${outputs} ${lanes}`,
        buffers: [
          { name: 'x', as: vectorOf(lanes, dtype('x')) },
          ...(has('residual') ? [{ name: 'residual', as: vectorOf(lanes, dtype('residual')) }, { name: 'sum', as: 'vec4<f32>' }] : []),
          { name: 'normWeight', as: 'vec4<f32>' },
          { name: 'weight', as: 'vec4<u32>' },
          'y',
        ],
        workgroups: normMatrixGroups(rows, { columns, outputs }),
        code: () =>
          normMatrices(gpu, { columns, outputs }, {
            ...{ weight: 'weight', rows: 'p.rows', functions: '' },
            load: `${eight('x')} ${has('residual') ? eight('residual') : ''}`,
            sum: has('residual') ? `sum[p.sum_at + b * ${columns / 4}u + 2u * octet] = low; sum[p.sum_at + b * ${columns / 4}u + 2u * octet + 1u] = high;` : '',
            store: () => `y[p.y_at + b * p.outputs + output] = ${saturated(1, dtype('y') ?? 'f32', 'value')};`,
          }),
      },
    ],
  };
};
