import { defineKernel, inout, input, optionalInput, output } from '../../tensor/index.js';
import { adamwStepGpu, globalNormGpu } from './webgpu.js';

/**
 * One AdamW step of `count` parameters with gradients
 * g·gradientScale·min(1, maxGradientNorm / (gradientNorm + 10⁻⁶)):
 *
 *     m ← beta1·m + (1 − beta1)·g,  v ← beta2·v + (1 − beta2)·g²
 *     p ← p − decay·p [first decayCount only] − stepSize·m / (√v·rootScale + epsilon)
 *
 * Nothing changes when gradientNorm is given and not finite.
 */
export const adamwStep = defineKernel('adamw_step', {
  buffers: {
    parameters: inout.f32,
    gradients: input.f32,
    firstMoments: inout.f32,
    secondMoments: inout.f32,
    gradientNorm: optionalInput.f32,
  },
  parameters: {
    count: 'int',
    decayCount: 'int',
    gradientScale: 'float',
    maxGradientNorm: 'float',
    beta1: 'float',
    beta1Complement: 'float',
    beta2: 'float',
    beta2Complement: 'float',
    epsilon: 'float',
    decay: 'float',
    stepSize: 'float',
    rootScale: 'float',
  },
  operations: (p) => 14 * p.count,
  divisions: (p) => [
    {
      along: 'count',
      strides: { parameters: 1, gradients: 1, firstMoments: 1, secondMoments: 1 },
      second: (count) => ({ decayCount: Math.max(0, p.decayCount - count) }),
    },
  ],
  webgpu: adamwStepGpu,
  reference({ parameters, gradients, firstMoments, secondMoments, gradientNorm }, p) {
    const norm = gradientNorm === null ? 0 : (gradientNorm[0] ?? NaN);
    if (!Number.isFinite(norm)) return;
    const scale = p.gradientScale * Math.min(1, p.maxGradientNorm / (norm + 1e-6));
    for (let i = 0; i < p.count; i++) {
      const g = scale * (gradients[i] ?? NaN);
      const m = p.beta1 * (firstMoments[i] ?? NaN) + p.beta1Complement * g;
      const v = p.beta2 * (secondMoments[i] ?? NaN) + p.beta2Complement * g * g;
      const decay = i < p.decayCount ? p.decay : 0;
      firstMoments[i] = m;
      secondMoments[i] = v;
      parameters[i] = (parameters[i] ?? NaN) * (1 - decay) - (p.stepSize * m) / (Math.sqrt(v) * p.rootScale + p.epsilon);
    }
  },
});

/** norm = scale·√Σ x² */
export const globalNorm = defineKernel('global_norm', {
  buffers: { x: input.f32, norm: output.f32 },
  parameters: { count: 'int', scale: 'float' },
  operations: (p) => 2 * p.count,
  webgpu: globalNormGpu,
  reference({ x, norm }, { count, scale }) {
    norm[0] = scale * Math.sqrt(x.subarray(0, count).reduce((sum, value) => sum + value * value, 0));
  },
});
