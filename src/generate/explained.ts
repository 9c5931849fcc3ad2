import type { LanguageModel } from '../models/index.js';
import { expectFiniteWeights } from '../nn/finite.js';
import { ArgumentError } from '../util/errors.js';

/** What `draw` gives. Where logits leave nothing to draw, an error that names the weight at fault, if one is. */
export async function explained<T>(model: LanguageModel, draw: () => T | Promise<T>): Promise<T> {
  try {
    return await draw();
  } catch (error) {
    if (error instanceof ArgumentError) await expectFiniteWeights('generate', model.parameters);
    throw error;
  }
}
