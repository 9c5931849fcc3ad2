import type { GpuBinding, GpuKernel, GpuLaunch } from '../../tensor/index.js';
import { axisSums } from '../../wgsl/axis-sums.js';
import { wgslMath } from '../../wgsl/math.js';
import { across, perRow, sumOf } from '../../wgsl/rows.js';
import { lanesOf, saturated, vectorOf } from '../../wgsl/vectors.js';

type Sizes = 'rows' | 'columns' | 'groups' | 'xPitch' | 'zPitch' | 'normFirst';

/** How a dispatch sees the buffers that are there, `lanes` numbers at a time. */
function view<B extends string>({ dtype, has }: GpuLaunch<B>, lanes: number, names: readonly B[]): GpuBinding[] {
  return names.filter(has).map((name) => ({ name, as: vectorOf(lanes, dtype(name) ?? 'f32') }));
}

/** WGSL of sigmoid of numbers, `lanes` at a time, beside `wgslMath`; and of numbers of a row. */
const gateCode = (lanes: number): string => {
  const v = vectorOf(lanes);
  return `
  ${wgslMath}
  fn sigmoids(x: ${v}) -> ${v} { return ${v}(1.0) / (${v}(1.0) + exp(min(-x, ${v}(88.0)))); }`;
};
const numberOf = (lanes: number) => (name: string, pitch: string, row: string, c: string) =>
  `${vectorOf(lanes)}(${name}[p.${name}_at + ${row} * (${pitch} / ${lanes}u) + ${c}])`;

/** The parts of a row are rows of their own: `row` is a part's number, `of_row` its row's, and `first` where it begins there. */
const partOf = (lanes: number): string => `
        let items = p.columns / p.groups / ${lanes}u;
        let of_row = row / p.groups;
        let first = row % p.groups * items;`;

export const gatedRmsNormGpu: GpuKernel<'x' | 'z' | 'weight' | 'y' | 'statistics', Sizes | 'epsilon'> = (launch) => {
  const { gpu, parameters, dtype, has } = launch;
  const { rows, columns, groups, xPitch, zPitch, normFirst } = parameters;
  const lanes = lanesOf(launch, [columns / groups, xPitch, zPitch], ['x', 'z', 'weight', 'y']);
  const v = vectorOf(lanes);
  const at = numberOf(lanes);
  const gated = 'gate * sigmoids(gate)';
  return {
    dispatches: [
      perRow({
        variant: `gated-norm ${normFirst} ${lanes}`,
        gpu,
        rows: rows * groups,
        items: columns / groups / lanes,
        buffers: [...view(launch, lanes, ['x', 'z', 'weight', 'y']), ...(has('statistics') ? ['statistics'] : [])],
        reductions: [sumOf('team_sum')],
        functions: gateCode(lanes),
        values: {
          value: [v, at('x', 'p.xPitch', 'of_row', 'first + c')],
          gate: [v, at('z', 'p.zPitch', 'of_row', 'first + c')],
        },
        body: (pass) => `
          ${partOf(lanes)}
          var squares = ${v}(0.0);
          ${pass(`let normal = value${normFirst ? '' : ` * ${gated}`}; squares += normal * normal;`)}
          let scale = inverseSqrt(team_sum(thread, ${across('squares', lanes)}) / f32(p.columns / p.groups) + p.epsilon);
          ${pass(`let result = value * ${gated} * scale * weight[p.weight_at + first + c];
            y[p.y_at + row * items + c] = ${saturated(lanes, dtype('y') ?? 'f32', 'result')};`)}
          ${has('statistics') ? 'if (live && member == 0u) { statistics[p.statistics_at + row] = scale; }' : ''}`,
      }),
    ],
  };
};

/** Rows whose share of the weight's gradient one invocation adds up. */
const rowsPerPartial = 32;

export const gatedRmsNormBackwardGpu: GpuKernel<
  'x' | 'z' | 'weight' | 'statistics' | 'dy' | 'dx' | 'dz' | 'dweight' | 'partials',
  Sizes | 'dyPitch' | 'blocks'
> = (launch) => {
  const { gpu, parameters, dtype, has } = launch;
  const { rows, columns, groups, xPitch, zPitch, dyPitch, normFirst } = parameters;
  const lanes = lanesOf(launch, [columns / groups, xPitch, zPitch, dyPitch], ['x', 'z', 'weight', 'dy', 'dx', 'dz']);
  const v = vectorOf(lanes);
  const at = numberOf(lanes);
  const store = (name: 'dx' | 'dz', value: string) =>
    has(name) ? `${name}[p.${name}_at + row * items + c] = ${vectorOf(lanes, dtype(name) ?? 'f32')}(${value});` : '';
  const toRows = perRow({
    variant: `gated-norm rows ${normFirst} ${lanes}`,
    gpu,
    rows: rows * groups,
    items: columns / groups / lanes,
    buffers: [...view(launch, lanes, ['x', 'z', 'weight', 'dy', 'dx', 'dz']), 'statistics'],
    reductions: [sumOf('team_sum')],
    functions: gateCode(lanes),
    values: {
      value: [v, at('x', 'p.xPitch', 'of_row', 'first + c')],
      gate: [v, at('z', 'p.zPitch', 'of_row', 'first + c')],
      slope: [v, `${at('dy', 'p.dyPitch', 'of_row', 'first + c')} * weight[p.weight_at + first + c]`],
    },
    body: (pass) => {
      const parts = `
            let share = sigmoids(gate);
            let gated = gate * share;
            let normal = value * scale${normFirst ? '' : ' * gated'};
            let through = slope${normFirst ? ' * gated' : ''};`;
      return `
          ${partOf(lanes)}
          let scale = statistics[p.statistics_at + select(0u, row, live)];
          var products = ${v}(0.0);
          ${pass(`${parts} products += through * normal;`)}
          let mean = team_sum(thread, ${across('products', lanes)}) / f32(p.columns / p.groups);
          ${pass(`${parts}
            let d = scale * (through - normal * mean);
            let gate_slope = share * (1.0 + gate * (1.0 - share));
            ${store('dx', normFirst ? 'd' : 'd * gated')}
            ${store('dz', normFirst ? 'slope * normal * gate_slope' : 'd * value * gate_slope')}`)}`;
    },
  });
  if (!has('dweight')) return { dispatches: [toRows] };
  const blocks = Math.max(1, Math.ceil(rows / rowsPerPartial));
  const toPartials = {
    variant: `gated-norm partials ${lanes}`,
    buffers: [...view(launch, lanes, ['x', 'z', 'dy']), 'statistics', { name: 'weight_partial', as: v }],
    numbers: { blocks_: blocks },
    workgroups: [Math.ceil(columns / lanes / 64), Math.min(65535, blocks), Math.ceil(blocks / 65535)] as const,
    code: () => `
      ${gateCode(lanes)}
      @compute @workgroup_size(64)
      fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
        let c = id.x * 64u + thread;
        let block = id.y + id.z * 65535u;
        let items = p.columns / ${lanes}u;
        if (c >= items || block >= p.blocks_) { return; }
        let part = c / (items / p.groups);
        var weights = ${v}(0.0);
        for (var row = block * ${rowsPerPartial}u; row < min((block + 1u) * ${rowsPerPartial}u, p.rows); row++) {
          let gate = ${at('z', 'p.zPitch', 'row', 'c')};
          let normal = ${at('x', 'p.xPitch', 'row', 'c')} * gate * sigmoids(gate) * statistics[p.statistics_at + row * p.groups + part];
          weights += ${at('dy', 'p.dyPitch', 'row', 'c')} * normal;
        }
        weight_partial[p.weight_partial_at + block * items + c] = weights;
      }`,
  };
  const total = axisSums({
    gpu,
    variant: 'dweight',
    ...{ outer: 1, length: blocks, inner: columns },
    from: [{ name: 'weight_partial', access: 'read' }],
    to: ['dweight'],
    load: 'weight_partial[p.weight_partial_at + at]',
    store: 'dweight[p.dweight_at + i] = sum;',
  });
  return {
    dispatches: [...(has('dx') || has('dz') ? [toRows] : []), toPartials, ...total.dispatches],
    scratch: { weight_partial: { dtype: 'f32', size: blocks * columns }, partial: { dtype: 'f32', size: total.partials } },
  };
};
