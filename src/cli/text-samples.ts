import type { DocumentDataset, DocumentSource, TokenDataset } from '../data/index.js';
import { generateText } from '../generate/index.js';
import type { LanguageModel } from '../models/index.js';
import type { SampleMetrics } from '../train/index.js';
import type { Tokenizer } from '../tokenizer/index.js';

const promptTokens = 32;
const sampleTokens = 200;

/** The first 32 tokens of the held-out text, or of its first document; a line break where nothing is held out. */
export async function samplePrompt({ validation }: TokenDataset | DocumentDataset, tokenizer: Tokenizer): Promise<string> {
  const ids = ArrayBuffer.isView(validation) ? validation.subarray(0, promptTokens) : await firstTokens(validation);
  // A token may be a part of a character.
  return tokenizer.decode(ids).replace(/^\uFFFD+|\uFFFD+$/g, '') || '\n';
}

async function firstTokens(documents: DocumentSource): Promise<ArrayLike<number>> {
  if (documents.count === 0) return [];
  const first = await documents.open(0);
  return first.read(0, Math.min(promptTokens, first.length));
}

/** What a model writes after a prompt, 200 tokens at temperature 0.8; the same prompt and luck each time, so that only the weights differ. */
export async function textSample(
  model: LanguageModel,
  tokenizer: Tokenizer,
  prompt: string,
  { seed, signal }: { seed: number; signal: AbortSignal },
): Promise<Pick<SampleMetrics, 'prompt' | 'sample'>> {
  let sample = '';
  for await (const piece of generateText(model, tokenizer, prompt, { maxTokens: sampleTokens, temperature: 0.8, seed, signal })) sample += piece;
  return { prompt, sample };
}
