import type { OperationCase } from './cases.js';
import { cases as adamw } from './adamw/cases.js';
import { cases as attention } from './attention/cases.js';
import { cases as blockStep } from './block-step/cases.js';
import { cases as causalConv1d } from './causal-conv1d/cases.js';
import { cases as cauchy } from './cauchy/cases.js';
import { cases as complex } from './complex/cases.js';
import { cases as crossEntropy } from './cross-entropy/cases.js';
import { cases as elementwise } from './elementwise/cases.js';
import { cases as embedding } from './embedding/cases.js';
import { cases as fft } from './fft/cases.js';
import { cases as flip } from './flip/cases.js';
import { cases as experts } from './experts/cases.js';
import { cases as gatedNorm } from './gated-norm/cases.js';
import { cases as layerNorm } from './layer-norm/cases.js';
import { cases as ltiScan } from './lti-scan/cases.js';
import { cases as matmul } from './matmul/cases.js';
import { cases as normLinear } from './norm-linear/cases.js';
import { cases as packed } from './packed/cases.js';
import { cases as reduction } from './reduction/cases.js';
import { cases as rmsNorm } from './rms-norm/cases.js';
import { cases as rotary } from './rotary/cases.js';
import { cases as routing } from './routing/cases.js';
import { cases as sampling } from './sampling/cases.js';
import { cases as selectiveScan } from './selective-scan/cases.js';
import { cases as softmax } from './softmax/cases.js';
import { cases as solve } from './solve/cases.js';
import { cases as ssd } from './ssd/cases.js';
import { cases as unfold } from './unfold/cases.js';
import { cases as vandermonde } from './vandermonde/cases.js';

/** Every operation's cases by folder: what tests run on every backend. */
export const operationCases: Readonly<Record<string, readonly OperationCase[]>> = {
  adamw,
  attention,
  'block-step': blockStep,
  'causal-conv1d': causalConv1d,
  cauchy,
  complex,
  'cross-entropy': crossEntropy,
  elementwise,
  embedding,
  fft,
  flip,
  experts,
  'gated-norm': gatedNorm,
  'layer-norm': layerNorm,
  'lti-scan': ltiScan,
  matmul,
  'norm-linear': normLinear,
  packed,
  reduction,
  'rms-norm': rmsNorm,
  rotary,
  routing,
  sampling,
  'selective-scan': selectiveScan,
  softmax,
  solve,
  ssd,
  unfold,
  vandermonde,
};
