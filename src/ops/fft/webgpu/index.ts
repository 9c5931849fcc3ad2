export { fftGpu, irfftGpu, rfftGpu } from './any-length.js';
export { fftConvBackwardGpu, fftConvGpu } from './conv.js';
export { fftTableGpu } from './table.js';
