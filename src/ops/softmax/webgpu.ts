import type { GpuKernel, GpuLaunch } from '../../tensor/index.js';
import { normaliser, normaliserCode, normaliserStart, wideRowHold } from '../../wgsl/normaliser.js';
import { across, perRow, sumOf } from '../../wgsl/rows.js';
import { lanesOf, vectorOf } from '../../wgsl/vectors.js';

type Rows = 'rows' | 'columns';

function forward(launch: GpuLaunch<'x' | 'y', Rows | 'xPitch'>, name: string, result: string): ReturnType<GpuKernel> {
  const { gpu, parameters, dtype } = launch;
  const { rows, columns, xPitch } = parameters;
  const lanes = lanesOf(launch, [columns, xPitch], ['x', 'y']);
  const items = columns / lanes;
  const y = vectorOf(lanes, dtype('y') ?? 'f32');
  return {
    dispatches: [
      perRow({
        variant: `${name}/${items}`,
        gpu,
        rows,
        items,
        buffers: [
          { name: 'x', as: vectorOf(lanes, dtype('x') ?? 'f32') },
          { name: 'y', as: y },
        ],
        functions: normaliserCode(lanes),
        reductions: [normaliser],
        values: { value: [vectorOf(lanes), `${vectorOf(lanes)}(x[p.x_at + row * (p.xPitch / ${lanes}u) + c])`] },
        hold: wideRowHold(dtype('x')),
        body: (pass) => `
          var own = ${normaliserStart};
          ${pass('own = with_item(own, value);')}
          let all = normaliser(thread, own);
          let log_sum = log(all.y);
          let share = 1.0 / all.y;
          ${pass(`y[p.y_at + row * ${items}u + c] = ${y}(${result});`)}`,
      }),
    ],
  };
}

export const softmaxGpu: GpuKernel<'x' | 'y', Rows | 'xPitch'> = (launch) => forward(launch, 'softmax', 'exp(value - all.x) * share');

export const logSoftmaxGpu: GpuKernel<'x' | 'y', Rows | 'xPitch'> = (launch) => forward(launch, 'log', 'value - all.x - log_sum');

function backward(
  launch: GpuLaunch<'y' | 'dy' | 'dx', Rows | 'dyPitch'>,
  name: string,
  [term, result]: readonly [term: string, result: string],
): ReturnType<GpuKernel> {
  const { gpu, parameters, dtype } = launch;
  const { rows, columns, dyPitch } = parameters;
  const lanes = lanesOf(launch, [columns, dyPitch], ['y', 'dy', 'dx']);
  const items = columns / lanes;
  const v = vectorOf(lanes);
  const dx = vectorOf(lanes, dtype('dx') ?? 'f32');
  return {
    dispatches: [
      perRow({
        variant: `${name}/${items}`,
        gpu,
        rows,
        items,
        buffers: [
          { name: 'y', as: vectorOf(lanes, dtype('y') ?? 'f32') },
          { name: 'dy', as: vectorOf(lanes, dtype('dy') ?? 'f32') },
          { name: 'dx', as: dx },
        ],
        reductions: [sumOf('team_sum')],
        values: {
          value: [v, `${v}(y[p.y_at + row * ${items}u + c])`],
          slope: [v, `${v}(dy[p.dy_at + row * (p.dyPitch / ${lanes}u) + c])`],
        },
        body: (pass) => `
          var own = ${v}(0.0);
          ${pass(`own += ${term};`)}
          let total = team_sum(thread, ${across('own', lanes)});
          ${pass(`dx[p.dx_at + row * ${items}u + c] = ${dx}(${result});`)}`,
      }),
    ],
  };
}

export const softmaxBackwardGpu: GpuKernel<'y' | 'dy' | 'dx', Rows | 'dyPitch'> = (launch) =>
  backward(launch, 'softmax', ['value * slope', 'value * (slope - total)']);

export const logSoftmaxBackwardGpu: GpuKernel<'y' | 'dy' | 'dx', Rows | 'dyPitch'> = (launch) =>
  backward(launch, 'log', ['slope', 'slope - exp(value) * total']);
