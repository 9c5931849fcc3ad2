export { ssdBackwardGpu } from './backward.js';
export { ssdGpu } from './forward.js';
export { ssdStepGpu } from './step.js';
