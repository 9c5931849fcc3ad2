import { checkSize, type Task } from './task.js';

/** The sizes of `selectiveCopying`. */
export interface SelectiveCopyingOptions {
  /** Positions over which the tokens are strewn. */
  readonly length: number;
  /** M: tokens to copy. */
  readonly tokens: number;
  /** V, the noise token (0) and the one that asks (V − 1) included. */
  readonly vocabularySize?: number;
}

/**
 * Selective copying: M tokens at random places among noise, then M times the token that asks, at which the model has to give
 * them back in their order. The gaps differ from example to example, so that no fixed delay solves it: the model must choose
 * by content what to remember.
 *
 * Source: the Mamba paper, section 4.1.1, figure 2 and appendix E.1. There is no word on whether the askings count as part
 * of the length; here they follow it, so that the model reads length + M ids.
 * @throws ArgumentError where a size does not fit
 */
export function selectiveCopying({ length, tokens, vocabularySize = 16 }: SelectiveCopyingOptions): Task {
  const operation = 'selectiveCopying';
  checkSize(operation, 'length', length, 1);
  checkSize(operation, 'tokens', tokens, 1, length);
  checkSize(operation, 'vocabularySize', vocabularySize, 3);
  const [noise, ask] = [0, vocabularySize - 1];
  return {
    description: `selective-copying, length ${length}, ${tokens} tokens, vocabulary ${vocabularySize}`,
    vocabularySize,
    length: length + tokens,
    fill(random, inputs, targets) {
      inputs.fill(noise, 0, length).fill(ask, length);
      const places = new Set<number>();
      // Floyd's algorithm: as many draws as tokens, and all choices of M places are equally likely.
      for (let last = length - tokens; last < length; last++) {
        const place = random.integer(last + 1);
        places.add(places.has(place) ? last : place);
      }
      for (const [index, place] of [...places].sort((one, other) => one - other).entries()) {
        const token = 1 + random.integer(vocabularySize - 2);
        inputs[place] = token;
        targets[length + index] = token;
      }
    },
  };
}
