/** The norms on GPUs: what rms-norm and layer-norm share. A row is read once, and stays in registers where it fits. */
import type { GpuBinding, GpuKernel, GpuLaunch } from '../tensor/index.js';
import { axisSums } from './axis-sums.js';
import { across, perRow, sumOf } from './rows.js';
import { lanesOf, vectorOf } from './vectors.js';

type Forward = 'x' | 'residual' | 'weight' | 'bias' | 'y' | 'sum' | 'statistics';
type ForwardParameters = 'rows' | 'columns' | 'xPitch' | 'residualPitch' | 'epsilon';

/** How a dispatch sees the buffers that are there, `lanes` numbers at a time. */
function view<B extends string>({ dtype, has }: GpuLaunch<B>, lanes: number, names: readonly B[]): GpuBinding[] {
  return names.filter(has).map((name) => ({ name, as: vectorOf(lanes, dtype(name) ?? 'f32') }));
}

export function normGpu(launch: GpuLaunch<Forward, ForwardParameters>, centred: boolean): ReturnType<GpuKernel> {
  const { gpu, parameters, dtype, has } = launch;
  const { rows, columns, xPitch, residualPitch } = parameters;
  const lanes = lanesOf(launch, [columns, xPitch, residualPitch], ['x', 'residual', 'weight', 'bias', 'y', 'sum']);
  const items = columns / lanes;
  // Where latency is all there is, the weight is asked for with the row.
  const few = rows <= 128;
  const v = vectorOf(lanes);
  const at = (name: string, pitch: string) => `${v}(${name}[p.${name}_at + row * (p.${pitch} / ${lanes}u) + c])`;
  const out = (name: 'y' | 'sum', value: string) =>
    `${name}[p.${name}_at + row * ${items}u + c] = ${vectorOf(lanes, dtype(name) ?? 'f32')}(${value});`;
  const zero = `${v}(0.0)`;
  const statistics = centred
    ? `
      let n = f32(p.columns);
      var total = ${zero};
      passTotal
      // What rounding the mean leaves out is subtracted as well: an offset of many deviations costs nothing.
      let mean = team_sum(thread, vec2<f32>(${across('total', lanes)}, 0.0)).x / n;
      var deviations = ${zero};
      var squares = ${zero};
      passDeviations
      let sums = team_sum(thread, vec2<f32>(${across('deviations', lanes)}, ${across('squares', lanes)})) / n;
      let correction = sums.x;
      let scale = inverseSqrt(max(sums.y - correction * correction, 0.0) + p.epsilon);`
    : `
      var squares = ${zero};
      passSquares
      let scale = inverseSqrt(team_sum(thread, ${across('squares', lanes)}) / f32(p.columns) + p.epsilon);`;
  const normalised = centred ? '((value - mean) - correction) * scale' : 'value * scale';
  const keepSum = has('sum') ? out('sum', 'value') : '';
  return {
    dispatches: [
      perRow({
        variant: `${centred ? 'layer' : 'rms'}-norm/${items}${few ? '/few' : ''}`,
        gpu,
        rows,
        items,
        buffers: [...view(launch, lanes, ['x', 'residual', 'weight', 'bias', 'y', 'sum']), ...(has('statistics') ? ['statistics'] : [])],
        reductions: [sumOf('team_sum', centred ? 'vec2<f32>' : 'f32')],
        values: {
          value: [v, at('x', 'xPitch') + (has('residual') ? ` + ${at('residual', 'residualPitch')}` : '')],
          ...(few ? { gain: [v, 'weight[p.weight_at + c]'] } : {}),
        },
        body: (pass) => `
          ${statistics
            .replace('passTotal', () => pass(`total += value; ${keepSum}`))
            .replace('passDeviations', () => pass('let deviation = value - mean; deviations += deviation; squares += deviation * deviation;'))
            .replace('passSquares', () => pass(`squares += value * value; ${keepSum}`))}
          ${pass(out('y', `${normalised} * ${few ? 'gain' : 'weight[p.weight_at + c]'}${has('bias') ? ' + bias[p.bias_at + c]' : ''}`))}
          ${has('statistics') ? storeStatistics(centred) : ''}`,
      }),
    ],
  };
}

const storeStatistics = (centred: boolean) =>
  centred
    ? `if (live && member == 0u) {
        let at = p.statistics_at + row * 3u;
        statistics[at] = scale;
        statistics[at + 1u] = mean;
        statistics[at + 2u] = correction;
      }`
    : 'if (live && member == 0u) { statistics[p.statistics_at + row] = scale; }';

type Backward = 'sum' | 'weight' | 'statistics' | 'dy' | 'dresidual' | 'dsum' | 'dx' | 'dweight' | 'dbias' | 'partials';
type BackwardParameters = 'rows' | 'columns' | 'sumPitch' | 'dyPitch' | 'dresidualPitch' | 'blocks';

/** Rows whose share of the weight's gradient one invocation adds up. */
const rowsPerPartial = 32;

export function normBackwardGpu(launch: GpuLaunch<Backward, BackwardParameters>, centred: boolean): ReturnType<GpuKernel> {
  const { gpu, parameters, dtype, has } = launch;
  const { rows, columns, sumPitch, dyPitch, dresidualPitch } = parameters;
  const kind = centred ? 'layer' : 'rms';
  const outputs = (['dweight', 'dbias'] as const).filter(has);
  const blocks = Math.max(1, Math.ceil(rows / rowsPerPartial));
  const lanes = lanesOf(launch, [columns, sumPitch, dyPitch, dresidualPitch], ['sum', 'weight', 'dy', 'dresidual', 'dsum', 'dx']);
  const items = columns / lanes;
  const v = vectorOf(lanes);
  const at = (name: string, pitch: string) => `${v}(${name}[p.${name}_at + row * (p.${pitch} / ${lanes}u) + c])`;
  const normalised = centred ? `((${at('sum', 'sumPitch')} - mean) - correction) * scale` : `${at('sum', 'sumPitch')} * scale`;
  const restore = (row: string) =>
    centred
      ? `
        let scale = statistics[p.statistics_at + 3u * ${row}];
        let mean = statistics[p.statistics_at + 3u * ${row} + 1u];
        let correction = statistics[p.statistics_at + 3u * ${row} + 2u];`
      : `let scale = statistics[p.statistics_at + ${row}];`;
  const store = (name: 'dsum' | 'dx') =>
    has(name) ? `${name}[p.${name}_at + row * ${items}u + c] = ${vectorOf(lanes, dtype(name) ?? 'f32')}(d);` : '';
  const toRows = perRow({
    variant: `${kind}-rows/${items}`,
    gpu,
    rows,
    items,
    buffers: [...view(launch, lanes, ['sum', 'weight', 'dy', 'dresidual', 'dsum', 'dx']), 'statistics'],
    reductions: [sumOf('team_sum', 'vec2<f32>')],
    values: {
      normal: [v, normalised],
      slope: [v, `${at('dy', 'dyPitch')} * weight[p.weight_at + c]`],
    },
    body: (pass) => `
      let known = select(0u, row, live);
      ${restore('known')}
      var slopes = ${v}(0.0);
      var products = ${v}(0.0);
      ${pass('slopes += slope; products += slope * normal;')}
      let means = team_sum(thread, vec2<f32>(${across('slopes', lanes)}, ${across('products', lanes)})) / f32(p.columns);
      ${pass(`
        let d = scale * (slope - normal * means.y${centred ? ' - means.x' : ''})${has('dresidual') ? ` + ${at('dresidual', 'dresidualPitch')}` : ''};
        ${store('dsum')} ${store('dx')}`)}`,
  });
  const toPartials = {
    variant: `${kind}-partials/${outputs.join()}`,
    buffers: [...view(launch, lanes, ['sum', 'dy']), 'statistics', ...outputs.map((name) => ({ name: `${name}_partial`, as: v }))],
    numbers: { blocks_: blocks },
    workgroups: [Math.ceil(items / 64), Math.min(65535, blocks), Math.ceil(blocks / 65535)] as const,
    code: () => `
      @compute @workgroup_size(64)
      fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
        let c = id.x * 64u + thread;
        let block = id.y + id.z * 65535u;
        let items = p.columns / ${lanes}u;
        if (c >= items || block >= p.blocks_) { return; }
        var weights = ${v}(0.0);
        var biases = ${v}(0.0);
        for (var row = block * ${rowsPerPartial}u; row < min((block + 1u) * ${rowsPerPartial}u, p.rows); row++) {
          ${restore('row')}
          let d = ${at('dy', 'dyPitch')};
          weights += d * (${normalised});
          biases += d;
        }
        ${has('dweight') ? 'dweight_partial[p.dweight_partial_at + block * items + c] = weights;' : ''}
        ${has('dbias') ? 'dbias_partial[p.dbias_partial_at + block * items + c] = biases;' : ''}
      }`,
  };
  const totals = outputs.map((name) =>
    axisSums({
      gpu,
      variant: name,
      ...{ outer: 1, length: blocks, inner: columns },
      from: [{ name: `${name}_partial`, access: 'read' }],
      to: [name],
      load: `${name}_partial[p.${name}_partial_at + at]`,
      store: `${name}[p.${name}_at + i] = sum;`,
    }),
  );
  return {
    dispatches: [
      ...(has('dsum') || has('dx') ? [toRows] : []),
      ...(outputs.length > 0 ? [toPartials] : []),
      ...totals.flatMap(({ dispatches }) => dispatches),
    ],
    scratch: {
      ...Object.fromEntries(outputs.map((name) => [`${name}_partial`, { dtype: 'f32', size: blocks * columns } as const])),
      ...(outputs.length > 0 ? { partial: { dtype: 'f32', size: Math.max(...totals.map(({ partials }) => partials)) } } : {}),
    },
  };
}
