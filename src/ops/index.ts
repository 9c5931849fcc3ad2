/** The operations that users call: checked, and recorded for gradients where they have any. What they are made of is imported by its path. */
export { adamwStep, globalNorm, type AdamwSettings, type AdamwTensors } from './adamw/adamw.js';
export { attention, documentBegins, type AttentionCache, type AttentionOptions } from './attention/attention.js';
export type { ConvActivation } from './causal-conv1d/arguments.js';
export { causalConv1d, type CausalConv1dOptions } from './causal-conv1d/causal-conv1d.js';
export { causalConv1dStep } from './causal-conv1d/step.js';
export { cauchy, type CauchyFactor } from './cauchy/cauchy.js';
export { complexMultiply, complexPhi, complexReciprocal } from './complex/complex.js';
export { full, zeros } from './create.js';
export { crossEntropy, ignoredTarget } from './cross-entropy/cross-entropy.js';
export { linearCrossEntropy, tokenLosses, type LinearCrossEntropyOptions } from './cross-entropy/linear-cross-entropy.js';
export {
  add,
  affine,
  divide,
  exp,
  gelu,
  geluTanh,
  log,
  multiply,
  negate,
  reciprocal,
  relu,
  sigmoid,
  silu,
  softplus,
  sqrt,
  square,
  subtract,
  tanh,
} from './elementwise/elementwise.js';
export type { GateActivation } from './elementwise/functions.js';
export { gated } from './elementwise/gated.js';
export { embedding, type EmbeddingOptions } from './embedding/embedding.js';
export { fftConv, type FftConvOptions } from './fft/fft-conv.js';
export { fft, type ComplexPair } from './fft/fft.js';
export { irfft, rfft } from './fft/real-fft.js';
export { flip } from './flip/flip.js';
export { experts } from './experts/experts.js';
export { gatedRmsNorm, type GatedNormOptions } from './gated-norm/gated-norm.js';
export { layerNorm } from './layer-norm/layer-norm.js';
export type { LinearSystem } from './lti-scan/arguments.js';
export { ltiScan, type LtiScanOptions, type LtiScanResult } from './lti-scan/lti-scan.js';
export { ltiStep } from './lti-scan/lti-step.js';
export { linear } from './matmul/linear.js';
export { matmul } from './matmul/matmul.js';
export { packWeight, unpackWeight } from './packed/packed.js';
export { max } from './reduction/max.js';
export { mean, sum } from './reduction/reduction.js';
export type { NormOptions, NormResult } from './rms-norm/arguments.js';
export { rmsNorm } from './rms-norm/rms-norm.js';
export { rotary, rotaryTable, type RotaryOptions } from './rotary/rotary.js';
export { routeTokens, type Routed, type RouteOptions, type RouterLosses, type Routing } from './routing/routing.js';
export { sampleTokens, type SampledTokens, type SampleTokensOptions } from './sampling/sampling.js';
export type { Discretization, ScanOptions } from './selective-scan/arguments.js';
export { selectiveScanStep } from './selective-scan/selective-scan-step.js';
export { selectiveScan, type SelectiveScanOptions, type SelectiveScanResult } from './selective-scan/selective-scan.js';
export { logSoftmax, softmax } from './softmax/softmax.js';
export { solve } from './solve/solve.js';
export type { SsdStepOptions } from './ssd/arguments.js';
export { ssd, type SsdOptions, type SsdResult } from './ssd/ssd.js';
export { ssdStep } from './ssd/ssd-step.js';
export { unfold } from './unfold/unfold.js';
export { vandermonde, type StateDiscretization } from './vandermonde/vandermonde.js';
export { cast, concatenate, contiguous, reshape, split } from './view/view.js';
