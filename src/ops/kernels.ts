import type { Kernel } from '../tensor/index.js';
import * as memory from '../backend/memory/kernels.js';
import * as adamw from './adamw/kernels.js';
import * as attention from './attention/kernels.js';
import * as blockStep from './block-step/kernels.js';
import * as ssdBlockStep from './block-step/ssd-kernels.js';
import * as causalConv1d from './causal-conv1d/kernels.js';
import * as cauchy from './cauchy/kernels.js';
import * as complex from './complex/kernels.js';
import * as crossEntropy from './cross-entropy/kernels.js';
import * as elementwise from './elementwise/kernels.js';
import * as embedding from './embedding/kernels.js';
import * as fft from './fft/kernels.js';
import * as flip from './flip/kernels.js';
import * as experts from './experts/kernels.js';
import * as gatedNorm from './gated-norm/kernels.js';
import * as layerNorm from './layer-norm/kernels.js';
import * as ltiScan from './lti-scan/kernels.js';
import * as matmul from './matmul/kernels.js';
import * as normLinear from './norm-linear/kernels.js';
import * as packed from './packed/kernels.js';
import * as reduction from './reduction/kernels.js';
import * as rmsNorm from './rms-norm/kernels.js';
import * as rotary from './rotary/kernels.js';
import * as routing from './routing/kernels.js';
import * as sampling from './sampling/kernels.js';
import * as selectiveScan from './selective-scan/kernels.js';
import * as softmax from './softmax/kernels.js';
import * as solve from './solve/kernels.js';
import * as ssd from './ssd/kernels.js';
import * as unfold from './unfold/kernels.js';
import * as vandermonde from './vandermonde/kernels.js';

/** Every kernel. */
export const kernels: readonly Kernel[] = [
  memory,
  elementwise,
  reduction,
  matmul,
  packed,
  embedding,
  rmsNorm,
  layerNorm,
  causalConv1d,
  selectiveScan,
  softmax,
  crossEntropy,
  adamw,
  sampling,
  rotary,
  attention,
  ssd,
  gatedNorm,
  fft,
  flip,
  unfold,
  routing,
  experts,
  complex,
  vandermonde,
  cauchy,
  ltiScan,
  solve,
  normLinear,
  blockStep,
  ssdBlockStep,
].flatMap((module: object) => Object.values(module) as Kernel[]);

/** The kernels that are compiled from C++, in the order of their table: all but the optional ones. */
export const compiledKernels: readonly Kernel[] = kernels.filter(({ optional }) => !optional);
