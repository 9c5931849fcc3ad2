export { selectiveScanBackwardGpu } from './backward.js';
export { selectiveScanGpu } from './forward.js';
export { selectiveScanStepGpu } from './step.js';
