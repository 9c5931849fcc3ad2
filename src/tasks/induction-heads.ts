import { checkSize, type Task } from './task.js';

/** The sizes of `inductionHeads`. */
export interface InductionHeadsOptions {
  /** Ids of an example; the last is the special token. */
  readonly length: number;
  /** V, the special token (V − 1) included. */
  readonly vocabularySize?: number;
}

/**
 * Induction heads: among random tokens a special one appears once, and again at the end, where the model has to give the
 * token that followed it the first time. The first place is uniform over the example.
 *
 * Source: the Mamba paper, section 4.1.2 and appendix E.1, after Olsson et al. (2022) and the H3 paper's synthetic task.
 * @throws ArgumentError where a size does not fit
 */
export function inductionHeads({ length, vocabularySize = 16 }: InductionHeadsOptions): Task {
  const operation = 'inductionHeads';
  checkSize(operation, 'length', length, 3);
  checkSize(operation, 'vocabularySize', vocabularySize, 2);
  const special = vocabularySize - 1;
  return {
    description: `induction-heads, length ${length}, vocabulary ${vocabularySize}`,
    vocabularySize,
    length,
    fill(random, inputs, targets) {
      for (let at = 0; at < length; at++) inputs[at] = random.integer(special);
      const place = random.integer(length - 2);
      inputs[place] = special;
      inputs[length - 1] = special;
      targets[length - 1] = inputs[place + 1] ?? 0;
    },
  };
}
