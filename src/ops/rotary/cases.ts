import type { Tensor } from '../../tensor/index.js';
import { normal, type OperationCase } from '../cases.js';
import { split } from '../view/view.js';
import { frequencyTable, levels } from './frequencies.js';
import { rotary } from './rotary.js';

/** [B, L, H, P] and R. */
const sizes: readonly (readonly [shape: readonly number[], turned: number])[] = [
  [[1, 1, 1, 2], 2],
  [[2, 5, 3, 8], 8],
  [[2, 33, 4, 20], 10],
  [[1, 70, 12, 64], 64],
  [[3, 9, 2, 24], 6],
];

const frequenciesOf = (turned: number) => Array.from({ length: turned / 2 }, (_, i) => 10000 ** ((-2 * i) / turned));

const table = (turned: number) => ({ shape: [levels, 2, turned / 2], values: frequencyTable(frequenciesOf(turned)) });

export const cases: readonly OperationCase[] = [
  ...sizes.flatMap(([shape, turned]) =>
    [false, true].map((interleaved): OperationCase => ({
      name: `x [${shape.join(',')}], ${turned} turned${interleaved ? ', interleaved' : ''}`,
      inputs: (random) => ({ x: normal(random, shape), table: table(turned) }),
      run: (input) => [rotary(input('x'), input('table'), { interleaved })],
      differentiable: ['x'],
      half: ['x'],
      large: shape.reduce((a, b) => a * b) > 2000,
    })),
  ),
  {
    name: 'far positions, heads with gaps',
    inputs: (random) => ({ x: normal(random, [2, 6, 3, 24]), table: table(8), positions: { shape: [2], dtype: 'i32' as const, values: [100_003, 16_000_000] } }),
    run(input) {
      const [, part] = split(input('x'), [12, 12]) as [Tensor, Tensor];
      return [rotary(part, input('table'), { positions: input('positions') }), rotary(part, input('table'))];
    },
    differentiable: ['x'],
  },
];
