export { attentionBackwardGpu } from './backward.js';
export { advanceGpu, appendPositionsGpu, documentBeginsGpu } from './cache.js';
export { attentionGpu } from './forward.js';
