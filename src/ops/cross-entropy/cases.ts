import type { Tensor } from '../../tensor/index.js';
import type { Random } from '../../util/random.js';
import { normal, type CaseInput, type OperationCase } from '../cases.js';
import { split } from '../view/view.js';
import { crossEntropy, ignoredTarget } from './cross-entropy.js';
import { linearCrossEntropy, tokenLosses } from './linear-cross-entropy.js';

/** Targets in [0, vocabulary), about a third of them ignored. */
function targets(random: Random, shape: readonly number[], vocabulary: number, ignored = 1 / 3): CaseInput {
  const size = shape.reduce((product, extent) => product * extent, 1);
  const draw = () => (random.uniform() < ignored ? ignoredTarget : random.integer(vocabulary));
  return { shape, dtype: 'i32', values: Int32Array.from({ length: size }, draw) };
}

const vocabularies = [1, 7, 97, 256, 1000];

const plain: OperationCase[] = [
  ...vocabularies.map((V): OperationCase => ({
    name: `vocabulary of ${V}`,
    inputs: (random) => ({ logits: normal(random, [2, 9, V], 3), targets: targets(random, [2, 9], V) }),
    run: (input) => [crossEntropy(input('logits'), input('targets'))],
    half: ['logits'],
    reductionLength: V,
  })),
  {
    name: 'vocabulary of 50,280',
    inputs: (random) => ({ logits: normal(random, [3, 50_280], 4), targets: targets(random, [3], 50_280, 0) }),
    run: (input) => [crossEntropy(input('logits'), input('targets'))],
    half: ['logits'],
    large: true,
  },
  ...[1, 63, 64, 65, 1000].map((L): OperationCase => ({
    name: `length ${L}`,
    inputs: (random) => ({ logits: normal(random, [2, L, 33], 2), targets: targets(random, [2, L], 33) }),
    run: (input) => [crossEntropy(input('logits'), input('targets'))],
    half: ['logits'],
    reductionLength: 33,
    large: L === 1000,
  })),
  {
    name: 'no leading axes',
    inputs: (random) => ({ logits: normal(random, [21]), targets: targets(random, [], 21, 0) }),
    run: (input) => [crossEntropy(input('logits'), input('targets'))],
  },
  {
    name: 'everything ignored',
    inputs: (random) => ({ logits: normal(random, [5, 21]), targets: targets(random, [5], 21, 1) }),
    run: (input) => [crossEntropy(input('logits'), input('targets'))],
  },
  {
    name: 'logits from −10⁴ to 10⁴',
    inputs: (random) => ({ logits: normal(random, [40, 37], 1e4), targets: targets(random, [40], 37) }),
    run: (input) => [crossEntropy(input('logits'), input('targets'))],
    large: true,
  },
  ...[1e4, -1e4].map((shift): OperationCase => ({
    name: `logits near ${shift}`,
    inputs: (random) => ({ logits: normal(random, [40, 37], 2, shift), targets: targets(random, [40], 37) }),
    run: (input) => [crossEntropy(input('logits'), input('targets'))],
    large: true,
  })),
  {
    name: 'logits and targets with gaps between their rows',
    inputs: (random) => ({ logits: normal(random, [3, 5, 40]), targets: targets(random, [3, 6], 37) }),
    run(input) {
      const [, logits] = split(input('logits'), [3, 37]) as [Tensor, Tensor];
      const [, shifted] = split(input('targets'), [1, 5]) as [Tensor, Tensor];
      return [crossEntropy(logits, shifted)];
    },
    half: ['logits'],
  },
];

const fusedInputs = (random: Random, shape: readonly number[], V: number, D: number) => ({
  hidden: normal(random, [...shape, D]),
  weight: normal(random, [V, D], 2 / Math.sqrt(D)),
  bias: normal(random, [V]),
  targets: targets(random, shape, V),
});

const fused: OperationCase[] = [
  ...vocabularies.flatMap((V) =>
    [1, 5, 32, 100].map((D): OperationCase => ({
      name: `linear, V ${V}, D ${D}`,
      inputs: (random) => fusedInputs(random, [2, 9], V, D),
      run: (input) => [
        linearCrossEntropy(input('hidden'), input('weight'), input('targets'), { bias: input('bias'), chunkRows: 7 }),
      ],
      half: ['hidden', 'weight'],
      reductionLength: Math.max(V, D),
    })),
  ),
  ...[1, 17, 18, 100, undefined].map((chunkRows): OperationCase => ({
    name: `linear, no bias, chunks of ${String(chunkRows)} of 18 rows`,
    inputs(random) {
      const { hidden, weight, targets: some } = fusedInputs(random, [3, 6], 23, 12);
      return { hidden, weight, targets: some };
    },
    run: (input) => [
      linearCrossEntropy(input('hidden'), input('weight'), input('targets'), chunkRows === undefined ? {} : { chunkRows }),
    ],
    reductionLength: 23,
  })),
  ...[63, 64, 65, 1000].map((L): OperationCase => ({
    name: `linear, length ${L}`,
    inputs: (random) => fusedInputs(random, [1, L], 19, 8),
    run: (input) => [linearCrossEntropy(input('hidden'), input('weight'), input('targets'), { bias: input('bias'), chunkRows: 64 })],
    reductionLength: L,
    large: L === 1000,
  })),
  {
    name: 'linear, logits from −10⁴ to 10⁴',
    inputs: (random) => ({ ...fusedInputs(random, [30], 19, 8), hidden: normal(random, [30, 8], 4e3) }),
    run: (input) => [linearCrossEntropy(input('hidden'), input('weight'), input('targets'), { chunkRows: 16 })],
    differentiable: ['hidden', 'weight'],
    reductionLength: 19,
    large: true,
  },
  {
    name: 'linear, everything ignored',
    inputs: (random) => ({ ...fusedInputs(random, [9], 19, 8), targets: targets(random, [9], 19, 1) }),
    run: (input) => [linearCrossEntropy(input('hidden'), input('weight'), input('targets'), { bias: input('bias'), chunkRows: 4 })],
  },
  {
    name: 'linear, hidden, weight and targets with gaps between their rows',
    inputs: (random) => ({ hidden: normal(random, [3, 5, 20]), weight: normal(random, [11, 20]), targets: targets(random, [3, 6], 11) }),
    run(input) {
      const [, hidden] = split(input('hidden'), [3, 17]) as [Tensor, Tensor];
      const [weight] = split(input('weight'), [17, 3]) as [Tensor, Tensor];
      const [, shifted] = split(input('targets'), [1, 5]) as [Tensor, Tensor];
      return [linearCrossEntropy(hidden, weight, shifted, { chunkRows: 4 })];
    },
    reductionLength: 17,
  },
  {
    name: 'token losses',
    inputs: (random) => fusedInputs(random, [2, 9], 97, 32),
    run: (input) => [tokenLosses(input('hidden'), input('weight'), input('targets'), { bias: input('bias'), chunkRows: 5 })],
    differentiable: [],
    reductionLength: 97,
    large: true,
  },
];

export const cases: readonly OperationCase[] = [...plain, ...fused];
