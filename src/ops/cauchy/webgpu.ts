import { fold, type GpuKernel } from '../../tensor/index.js';
import { complexBuffer, wgslComplex } from '../../wgsl/complex.js';
import { perElement } from '../../wgsl/per-element.js';
import { teamSum } from '../../wgsl/rows.js';

type Sizes = 'rows' | 'features' | 'states' | 'length' | 'nodes' | 'cosine';

/** WGSL: cosine and sine of a node's angle, each by its own small turn; what rows are multiplied by; one of two denominators. */
const nodeCode = (cosine: number): string => `
  ${wgslComplex}
  fn node(k: u32) -> vec2<f32> {
    let c = cosine_and_sine(f32(p.length - 2u * k) / f32(4u * p.length)).y;
    return vec2<f32>(c, cosine_and_sine(f32(2u * k) / f32(4u * p.length)).y);
  }
  fn factor_of(at: vec2<f32>) -> vec2<f32> { return ${cosine === 1 ? 'vec2<f32>(at.x, 0.0)' : '0.5 * at'}; }
  fn resolvent(at: vec2<f32>, rate: vec2<f32>) -> vec2<f32> { return inverse(vec2<f32>(0.0, at.y) - 0.5 * at.x * rate); }`;

export const cauchyGpu: GpuKernel<'v' | 'a' | 'y', Sizes> = ({ parameters: { rows, features, nodes, cosine } }) => ({
  dispatches: [
    perElement({
      variant: `cauchy ${cosine}`,
      count: rows * features * nodes,
      buffers: [complexBuffer('v'), complexBuffer('a'), complexBuffer('y')],
      functions: nodeCode(cosine),
      body: `
        let row = i / p.nodes;
        let rates = p.a_at + row % p.features * p.states;
        let at = node(i % p.nodes);
        var sum = vec2<f32>(0.0);
        for (var n = 0u; n < p.states; n++) {
          let value = v[p.v_at + row * p.states + n];
          sum += times(value, resolvent(at, a[rates + n])) + times(conjugate(value), resolvent(at, conjugate(a[rates + n])));
        }
        y[p.y_at + i] = times(factor_of(at), sum);`,
    }),
  ],
});

const threads = 64;

/** A workgroup for each feature and state. */
export const cauchyBackwardGpu: GpuKernel<'v' | 'a' | 'dy' | 'dv' | 'da', Sizes> = ({ gpu, has, parameters: { features, states, cosine } }) => ({
  dispatches: [
    {
      variant: `cauchy backward ${cosine}`,
      buffers: [...(has('da') ? [complexBuffer('v')] : []), complexBuffer('a'), complexBuffer('dy'), ...(['dv', 'da'] as const).filter(has).map((name) => complexBuffer(name))],
      numbers: { groups: features * states },
      workgroups: fold(features * states),
      code: () => `
        ${nodeCode(cosine)}
        ${teamSum(gpu, 'team_sum', threads, threads, 'vec4<f32>')}
        @compute @workgroup_size(${threads})
        fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                @builtin(local_invocation_index) thread: u32) {
          let group = flat_workgroup(id, count);
          let writes = thread == 0u && group < p.groups;
          let i = min(group, p.groups - 1u);
          let rate = a[p.a_at + i];
          var total = vec2<f32>(0.0);
          for (var r = 0u; r < p.rows; r++) {
            let row = r * p.features + i / p.states;
            let j = row * p.states + i % p.states;
            ${has('da') ? 'let value = v[p.v_at + j];' : ''}
            var own = vec4<f32>(0.0);
            for (var k = thread; k < p.nodes; k += ${threads}u) {
              let at = node(k);
              let near = resolvent(at, rate);
              let far = resolvent(at, conjugate(rate));
              let d = times(dy[p.dy_at + row * p.nodes + k], conjugate(factor_of(at)));
              let first = times(d, conjugate(near));
              let second = conjugate(times(d, conjugate(far)));
              own += vec4<f32>(first + second, ${
                has('da') ? '0.5 * at.x * (times(first, conjugate(times(value, near))) + times(second, times(conjugate(value), far)))' : 'vec2<f32>(0.0)'
              });
            }
            let sums = team_sum(thread, own);
            ${has('dv') ? 'if (writes) { dv[p.dv_at + j] = sums.xy; }' : ''}
            total += sums.zw;
          }
          ${has('da') ? 'if (writes) { da[p.da_at + i] = total; }' : ''}
        }`,
    },
  ],
});
