export { BytePairTrainer } from './byte-pair-trainer.js';
export type { BytePairOptions } from './byte-pair-trainer.js';
export { ByteTokenizer } from './byte-tokenizer.js';
export { HuggingFaceTokenizer } from './hugging-face-tokenizer.js';
export type { TokenizerFiles } from './hugging-face-tokenizer.js';
export { loadTokenizer } from './load-tokenizer.js';
export type { TextStream, Tokenizer } from './tokenizer.js';
