/** Reading prompts, decoding and sampling: `elapid/generate`. */
export { Decoder, prefill } from './decoder.js';
export { generateText, generateTokens, type GenerateOptions, type GenerateTextOptions } from './generate.js';
export { argmax, Sampler, type SamplingOptions } from './sampling.js';
export type { Draft, DraftOptions, SpeculationRound } from './speculation.js';
export { StopMatcher } from './stop.js';
