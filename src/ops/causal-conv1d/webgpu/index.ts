export { causalConv1dBackwardGpu } from './backward.js';
export { causalConv1dGpu, causalConv1dStepGpu } from './forward.js';
