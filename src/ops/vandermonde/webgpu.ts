import { fold, type GpuKernel } from '../../tensor/index.js';
import { complexBuffer, wgslComplex } from '../../wgsl/complex.js';
import { wgslMath } from '../../wgsl/math.js';
import { perElement } from '../../wgsl/per-element.js';
import { teamSum } from '../../wgsl/rows.js';

type Sizes = 'rows' | 'features' | 'states' | 'length' | 'bilinear';

/** WGSL: ln Ā of a state, its slope by a, and Āˡ. */
const powerCode = (bilinear: number): string => `
  ${wgslMath}
  ${wgslComplex}
  // Polynomial of Cephes' atanf.
  fn arc_tangent(ratio: f32) -> f32 {
    let far = ratio > 0.4142135624;
    let r = select(ratio, (ratio - 1.0) / (ratio + 1.0), far);
    let z = r * r;
    let near = r + r * z * (-0.333329491539 + z * (0.199777106478 + z * (-0.138776856032 + z * 0.0805374449538)));
    return select(near, near + 0.785398163397, far);
  }
  fn angle_of(y: f32, x: f32) -> f32 {
    let steep = abs(y) > abs(x);
    let first = arc_tangent(select(abs(y) / max(abs(x), 1e-38), abs(x) / max(abs(y), 1e-38), steep));
    let quadrant = select(first, 1.57079632679 - first, steep);
    let half = select(quadrant, 3.14159265359 - quadrant, x < 0.0);
    return select(half, -half, y < 0.0);
  }
  // Of (1 + w)/(1 − w), w = a/2, or of eᵃ.
  fn log_decay(a: vec2<f32>) -> vec2<f32> {
    ${
      bilinear === 1
        ? `let w = 0.5 * a;
    let sign = select(1.0, -1.0, w.x <= 0.0);
    let below = (1.0 - sign * w.x) * (1.0 - sign * w.x) + w.y * w.y;
    return vec2<f32>(0.5 * sign * log1p(4.0 * abs(w.x) / below), angle_of(2.0 * w.y, 1.0 - dot(w, w)));`
        : 'return a;'
    }
  }
  fn log_slope(a: vec2<f32>) -> vec2<f32> {
    return ${bilinear === 1 ? 'inverse(vec2<f32>(1.0, 0.0) - 0.25 * times(a, a))' : 'vec2<f32>(1.0, 0.0)'};
  }
  fn power(log_base: vec2<f32>, l: u32) -> vec2<f32> { return exp(f32(l) * log_base.x) * turned(l, log_base.y); }`;

export const vandermondeGpu: GpuKernel<'w' | 'a' | 'y', Sizes> = ({ parameters: { rows, features, length, bilinear } }) => ({
  dispatches: [
    perElement({
      variant: `vandermonde ${bilinear}`,
      count: rows * features * length,
      buffers: [complexBuffer('w'), complexBuffer('a'), 'y'],
      functions: powerCode(bilinear),
      body: `
        let row = i / p.length;
        let rates = p.a_at + row % p.features * p.states;
        var sum = 0.0;
        for (var n = 0u; n < p.states; n++) {
          sum += times(w[p.w_at + row * p.states + n], power(log_decay(a[rates + n]), i % p.length)).x;
        }
        y[p.y_at + i] = sum;`,
    }),
  ],
});

const threads = 64;

/** A workgroup for each feature and state. */
export const vandermondeBackwardGpu: GpuKernel<'w' | 'a' | 'dy' | 'dw' | 'da', Sizes> = ({ gpu, has, parameters: { features, states, bilinear } }) => ({
  dispatches: [
    {
      variant: `vandermonde backward ${bilinear}`,
      buffers: [complexBuffer('w'), complexBuffer('a'), 'dy', ...(['dw', 'da'] as const).filter(has).map((name) => complexBuffer(name))],
      numbers: { groups: features * states },
      workgroups: fold(features * states),
      code: () => `
        ${powerCode(bilinear)}
        ${teamSum(gpu, 'team_sum', threads, threads, 'vec4<f32>')}
        @compute @workgroup_size(${threads})
        fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                @builtin(local_invocation_index) thread: u32) {
          let group = flat_workgroup(id, count);
          let writes = thread == 0u && group < p.groups;
          let i = min(group, p.groups - 1u);
          let h = i / p.states;
          let rate = a[p.a_at + i];
          let base = log_decay(rate);
          var total = vec2<f32>(0.0);
          for (var r = 0u; r < p.rows; r++) {
            let row = r * p.features + h;
            var own = vec4<f32>(0.0);
            for (var l = thread; l < p.length; l += ${threads}u) {
              let term = dy[p.dy_at + row * p.length + l] * power(base, l);
              own += vec4<f32>(term, f32(l) * term);
            }
            let sums = team_sum(thread, own);
            let j = row * p.states + i % p.states;
            ${has('dw') ? 'if (writes) { dw[p.dw_at + j] = conjugate(sums.xy); }' : ''}
            total += times(w[p.w_at + j], sums.zw);
          }
          ${has('da') ? 'if (writes) { da[p.da_at + i] = conjugate(times(total, log_slope(rate))); }' : ''}
        }`,
    },
  ],
});
