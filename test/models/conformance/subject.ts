import type { LanguageModel } from '../../../src/models/index.js';
import type { Backend, Tensor } from '../../../src/tensor/index.js';
import { tolerance } from '../../support/compare.js';
import type { FamilyRow, Variant } from '../../support/families.js';
import { idTensor, randomIds } from '../../support/models.js';

/** Of every model of the suite. */
export const vocabulary = 23;
/** Ids of a text. */
export const ids = randomIds(37, vocabulary);
export const limit = tolerance(ids.length);

/** One row of logits or several, of those of a sequence or of several. */
export const rowsOf = (logits: Float64Array, from: number, to: number): Float64Array => logits.subarray(from * vocabulary, to * vocabulary);

/** What a part of the suite tests: a variant of a family on a backend. */
export interface Subject {
  readonly row: FamilyRow;
  readonly variant: Variant;
  readonly kind: 'reference' | 'cpu' | 'webgpu';
  readonly backend: () => Backend;
  readonly reference: () => Backend;
  /** Runs `body` with a model, and frees it. */
  readonly withModel: (body: (model: LanguageModel) => Promise<void>) => Promise<void>;
  /** Ids on the backend. @param shape default: one sequence */
  readonly input: (ids: ArrayLike<number>, shape?: readonly number[]) => Tensor<'i32'>;
}

export const subjectOf = (given: Omit<Subject, 'withModel' | 'input'>): Subject => ({
  ...given,
  async withModel(body) {
    const model = given.row.make(given.backend(), given.variant.options);
    try {
      await body(model);
    } finally {
      model.dispose();
    }
  },
  input: (values, shape = [1, values.length]) => idTensor(given.backend(), values, shape),
});
