import type { DType, GpuKernel, GpuLaunch } from '../../tensor/index.js';
import { across, perRow, sumOf, type Reduction } from '../../wgsl/rows.js';
import { lanesOf, vectorOf } from '../../wgsl/vectors.js';

/**
 * The largest number m of a row and Σ e^(x − m), in one pass: (m, Σ) of two parts. m starts at the lowest finite number, so
 * that −∞ adds nothing and no difference is ∞ − ∞.
 */
export const normaliser: Reduction = { name: 'normaliser', type: 'vec2<f32>', combine: 'joined(a, b)' };
export const normaliserStart = 'vec2<f32>(-3.4028234e38, 0.0)';
const largestLane = (value: string, lanes: number) =>
  lanes === 1 ? value : `max(max(${value}.x, ${value}.y), max(${value}.z, ${value}.w))`;

/** WGSL of `joined`, and of `with_item(normaliser, item)`, which takes in the numbers of one item. */
export const normaliserCode = (lanes: number): string => `
  fn joined(a: vec2<f32>, b: vec2<f32>) -> vec2<f32> {
    let largest = max(a.x, b.x);
    return vec2<f32>(largest, a.y * exp(a.x - largest) + b.y * exp(b.x - largest));
  }
  fn with_item(a: vec2<f32>, item: ${vectorOf(lanes)}) -> vec2<f32> {
    let largest = max(a.x, ${largestLane('item', lanes)});
    let powers = exp(item - largest);
    return vec2<f32>(largest, a.y * exp(a.x - largest) + ${across('powers', lanes)});
  }`;

/**
 * Items of a row of logits that an invocation holds, so that the second pass need not read them: a vocabulary of 50,280. Rows in
 * half precision, of which those at work fit a cache, are faster when read twice by more invocations (H100: 112 µs against 133
 * for [1024, 50280] in place; in f32 184 against 250).
 */
export const wideRowHold = (dtype: DType | undefined): number => (dtype === 'f16' ? 8 : 16);

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
        variant: `${name}/${String(items)}`,
        gpu,
        rows,
        items,
        buffers: [
          { name: 'x', as: vectorOf(lanes, dtype('x') ?? 'f32') },
          { name: 'y', as: y },
        ],
        functions: normaliserCode(lanes),
        reductions: [normaliser],
        values: { value: [vectorOf(lanes), `${vectorOf(lanes)}(x[p.x_at + row * (p.xPitch / ${String(lanes)}u) + c])`] },
        hold: wideRowHold(dtype('x')),
        body: (pass) => `
          var own = ${normaliserStart};
          ${pass('own = with_item(own, value);')}
          let all = normaliser(thread, own);
          let log_sum = log(all.y);
          let share = 1.0 / all.y;
          ${pass(`y[p.y_at + row * ${String(items)}u + c] = ${y}(${result});`)}`,
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
        variant: `${name}/${String(items)}`,
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
          value: [v, `${v}(y[p.y_at + row * ${String(items)}u + c])`],
          slope: [v, `${v}(dy[p.dy_at + row * (p.dyPitch / ${String(lanes)}u) + c])`],
        },
        body: (pass) => `
          var own = ${v}(0.0);
          ${pass(`own += ${term};`)}
          let total = team_sum(thread, ${across('own', lanes)});
          ${pass(`dx[p.dx_at + row * ${String(items)}u + c] = ${dx}(${result});`)}`,
      }),
    ],
  };
}

export const softmaxBackwardGpu: GpuKernel<'y' | 'dy' | 'dx', Rows | 'dyPitch'> = (launch) =>
  backward(launch, 'softmax', ['value * slope', 'value * (slope - total)']);

export const logSoftmaxBackwardGpu: GpuKernel<'y' | 'dy' | 'dx', Rows | 'dyPitch'> = (launch) =>
  backward(launch, 'log', ['slope', 'slope - exp(value) * total']);
