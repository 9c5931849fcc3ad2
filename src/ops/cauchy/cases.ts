import { normal, type OperationCase } from '../cases.js';
import { decays, settings } from '../vandermonde/cases.js';
import { cauchy } from './cauchy.js';

export const cases: readonly OperationCase[] = settings.flatMap(([rows, features, states, length]) =>
  (['phase', 'cosine'] as const).map((factor): OperationCase => ({
    name: `[rows,H,N,L] = [${rows},${features},${states},${length}], ${factor}`,
    inputs: (random) => ({ v: normal(random, [rows, features, states, 2]), a: decays(random, [features, states, 2]) }),
    run: (input) => [cauchy(input('v'), input('a'), length, { factor })],
    // Near a resonance, denominators lose digits; a's gradient has their squares.
    reductionLength: 256 * states + 4 * length,
  })),
);
