export { Decoder, prefill, type PrefillOptions } from './decoder.js';
export * from './generate.js';
export * from './sampling.js';
export * from './stop.js';
