import { type GpuDispatch, type GpuKernel, type GpuLaunch } from '../../../tensor/index.js';
import { perRow, across, sumOf } from '../../../wgsl/rows.js';
import { keyGradientsByMatrices } from './key-gradients-matrices.js';
import { keyGradientsByRows } from './key-gradients-rows.js';
import type { Places, Sizes } from './places.js';
import { haveMatrices } from './matrices.js';
import { queryGradientByMatrices } from './query-gradient-matrices.js';
import { queryGradientByRows } from './query-gradient-rows.js';

export type BackwardBuffers = Places | 'q' | 'k' | 'v' | 'y' | 'logSums' | 'dy' | 'deltas' | 'dq' | 'dk' | 'dv';
export type BackwardParameters = Sizes | 'qPitch' | 'kPitch' | 'vPitch' | 'dyPitch';

type Gradients = (launch: GpuLaunch<BackwardBuffers, BackwardParameters>) => GpuDispatch[];

export const attentionBackwardGpu: GpuKernel<BackwardBuffers, BackwardParameters> = (launch) => {
  const { qPitch, kPitch, vPitch, dyPitch } = launch.parameters;
  const matrices = haveMatrices(launch, ['q', 'k', 'v', 'dy', 'dq', 'dk', 'dv'], [qPitch, kPitch, vPitch, dyPitch]);
  return (matrices ? attentionBackwardBy(queryGradientByMatrices, keyGradientsByMatrices) : attentionBackwardBy(queryGradientByRows, keyGradientsByRows))(launch);
};

/** δ first, then the gradient of queries, then those of keys and values. */
export const attentionBackwardBy =
  (queries: Gradients, keys: Gradients): GpuKernel<BackwardBuffers, BackwardParameters> =>
  (launch) => {
    const { batch, length, heads } = launch.parameters;
    const { has } = launch;
    return {
      dispatches: [deltas(launch), ...(has('dq') ? queries(launch) : []), ...(has('dk') || has('dv') ? keys(launch) : [])],
      scratch: { statistics: { dtype: 'f32', size: 2 * batch * heads * length } },
    };
  };

/** δ of each query, and `statistics` [B, H, L, 2]: log₂ Σ e^s and δ beside each other, so that a dispatch binds one buffer less. */
function deltas({ gpu, parameters, dtype, aligned }: GpuLaunch<BackwardBuffers, BackwardParameters>): GpuDispatch {
  const { batch, length, heads, size, dyPitch } = parameters;
  const lanes = size % 4 === 0 && dyPitch % 4 === 0 && aligned(4, 'y', 'dy') ? 4 : 1;
  const v = lanes === 4 ? 'vec4<f32>' : 'f32';
  // Halves come as words: code without the type f16 runs where shaders lack it.
  const view = (name: 'y' | 'dy', pitch: string) => {
    const at = `${name}[p.${name}_at + row * (p.${pitch} / ${lanes}u) + c]`;
    const words = lanes === 4 && dtype(name) === 'f16';
    return {
      binding: { name, as: words ? 'vec2<u32>' : lanes === 4 ? v : (dtype(name) ?? 'f32') },
      load: words ? `vec4<f32>(unpack2x16float(${at}.x), unpack2x16float(${at}.y))` : `${v}(${at})`,
    };
  };
  const [ofY, ofDy] = [view('y', 'size'), view('dy', 'dyPitch')];
  return perRow({
    variant: `deltas/${lanes}`,
    gpu,
    rows: batch * length * heads,
    items: size / lanes,
    buffers: [ofY.binding, ofDy.binding, 'logSums', 'deltas', 'statistics'],
    reductions: [sumOf('team_sum')],
    values: {
      of_y: [v, ofY.load],
      of_dy: [v, ofDy.load],
    },
    body: (pass) => `
      var own = 0.0;
      ${pass(`let product = of_y * of_dy; own += ${across('product', lanes)};`)}
      let delta = team_sum(thread, own);
      if (live && member == 0u) {
        let t = row / p.heads;
        let place = (t / p.length * p.heads + row % p.heads) * p.length + t % p.length;
        deltas[p.deltas_at + place] = delta;
        statistics[p.statistics_at + 2u * place] = logSums[p.logSums_at + place] * ${Math.LOG2E};
        statistics[p.statistics_at + 2u * place + 1u] = delta;
      }`,
  });
}
