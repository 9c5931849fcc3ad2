import type { GpuKernel } from '../../tensor/index.js';
import { perElement } from '../../wgsl/per-element.js';
import { rangesOfRows } from '../../wgsl/ranges.js';
import { perRow, sumOf } from '../../wgsl/rows.js';
import { lanesOf, vectorOf } from '../../wgsl/vectors.js';

const vectors = ['parameters', 'gradients', 'firstMoments', 'secondMoments'] as const;

/** One pass: four reads and three writes a parameter. */
export const adamwStepGpu: GpuKernel<(typeof vectors)[number] | 'gradientNorm', 'count' | 'decayCount'> = (launch) => {
  const { parameters, has } = launch;
  const lanes = lanesOf(launch, [parameters.count], vectors);
  const v = vectorOf(lanes);
  const first = lanes === 1 ? 'i' : 'vec4<u32>(4u * i, 4u * i + 1u, 4u * i + 2u, 4u * i + 3u)';
  return {
    dispatches: [
      perElement({
        variant: `adamw/${lanes}`,
        count: parameters.count / lanes,
        buffers: [...vectors.map((name) => ({ name, as: v })), ...(has('gradientNorm') ? ['gradientNorm'] : [])],
        body: `
          var scale = p.gradientScale;
          ${
            has('gradientNorm')
              ? `
          let norm = gradientNorm[p.gradientNorm_at];
          // By its bits, as compilers may assume that numbers are finite.
          if ((bitcast<u32>(norm) & 0x7f800000u) == 0x7f800000u) { return; }
          scale *= min(1.0, p.maxGradientNorm / (norm + 1e-6));`
              : ''
          }
          let g = scale * gradients[p.gradients_at + i];
          let m = p.beta1 * firstMoments[p.firstMoments_at + i] + p.beta1Complement * g;
          let v = p.beta2 * secondMoments[p.secondMoments_at + i] + p.beta2Complement * g * g;
          let old = parameters[p.parameters_at + i];
          // Subtracted, not multiplied in as 1 − decay: that factor has no digits left for a decay of 10⁻⁶ a step.
          let decay = select(${v}(0.0), ${v}(p.decay), ${first} < ${vectorOf(lanes, 'u32')}(p.decayCount));
          firstMoments[p.firstMoments_at + i] = m;
          secondMoments[p.secondMoments_at + i] = v;
          parameters[p.parameters_at + i] = old - (p.stepSize * m / (sqrt(v) * p.rootScale + p.epsilon) + decay * old);`,
      }),
    ],
  };
};

/** Numbers that one workgroup adds up. */
const part = 2 ** 15;

/**
 * Squares are added in three sums, of small, ordinary and large numbers, the first and the last scaled, so that none overflows
 * or vanishes that the norm itself could hold: 2⁴⁶ and 2⁻⁴⁶ part them, 2^±86 scales them, and 10⁹ terms fit each.
 *
 * Source: Blue, "A Portable Fortran Program to Find the Euclidean Norm of a Vector" (1978).
 */
export const globalNormGpu: GpuKernel<'x' | 'norm', 'count' | 'scale'> = (launch) => {
  const { gpu, parameters } = launch;
  const { count } = parameters;
  const lanes = lanesOf(launch, [count], ['x']);
  const v = vectorOf(lanes);
  const parts = Math.max(1, Math.ceil(count / part));
  const ranges = rangesOfRows(gpu, { rows: parts, pitch: part, width: part, itemBytes: 4 });
  const sums = { name: 'sums', as: 'f32' };
  return {
    scratch: { sums: { dtype: 'f32', size: 4 * parts } },
    dispatches: [
      ...ranges.map(({ first, count: rows, part: range }) =>
        perRow({
          variant: `squares/${lanes}`,
          gpu,
          rows,
          items: Math.min(part, count) / lanes,
          buffers: [{ name: 'x', as: v, part: range && { first: range.first, size: Math.min(range.size, count - range.first) } }, sums],
          reductions: [sumOf('team_sum', 'vec4<f32>')],
          values: {},
          numbers: { all: count / lanes - first * (part / lanes), firstRow: first },
          body: (pass) => `
            var small = ${v}(0.0);
            var ordinary = ${v}(0.0);
            var large = ${v}(0.0);
            ${pass(`
              let i = row * ${part / lanes}u + c;
              if (i < p.all) {
                let value = x[p.x_at + i];
                let size = abs(value);
                let is_large = size > ${v}(70368744177664.0);
                let is_small = size < ${v}(1.4210854715202004e-14);
                let scale = select(select(${v}(1.0), ${v}(7.737125245533627e25), is_small), ${v}(1.2924697071141057e-26), is_large);
                let square = (value * scale) * (value * scale);
                small += select(${v}(0.0), square, is_small);
                large += select(${v}(0.0), square, is_large);
                ordinary += select(square, ${v}(0.0), is_small | is_large);
              }`)}
            let total = team_sum(thread, vec4<f32>(${['small', 'ordinary', 'large']
              .map((name) => (lanes === 1 ? name : `dot(${name}, vec4<f32>(1.0))`))
              .join(', ')}, 0.0));
            if (live && member == 0u) {
              for (var k = 0u; k < 3u; k++) { sums[p.sums_at + 4u * (p.firstRow + row) + k] = total[k]; }
            }`,
        }),
      ),
      perRow({
        variant: 'root',
        gpu,
        rows: 1,
        items: parts,
        buffers: [{ ...sums, access: 'read' }, 'norm'],
        reductions: [sumOf('team_sum', 'vec4<f32>')],
        values: {},
        body: (pass) => `
          var own = vec4<f32>(0.0);
          ${pass('for (var k = 0u; k < 3u; k++) { own[k] += sums[p.sums_at + 4u * c + k]; }')}
          let total = team_sum(thread, own);
          let down = 1.2924697071141057e-26;
          let up = 7.737125245533627e25;
          // A NaN is among the ordinary ones: their sum is not 0 then.
          var root = sqrt(total.y + total.x * down * down);
          if (total.z > 0.0) { root = sqrt(total.z + total.y * down * down) * up; }
          else if (total.y == 0.0) { root = sqrt(total.x) * down; }
          if (live && member == 0u) { norm[p.norm_at] = p.scale * root; }`,
      }),
    ],
  };
};
