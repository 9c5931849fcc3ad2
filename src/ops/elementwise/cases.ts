import type { Tensor } from '../../tensor/index.js';
import { normal, uniform, type OperationCase } from '../cases.js';
import { split } from '../view/view.js';
import * as ops from './elementwise.js';
import { gateActivations } from './functions.js';
import { gated } from './gated.js';

const everywhere = ['negate', 'exp', 'square', 'sigmoid', 'silu', 'softplus', 'tanh', 'relu', 'gelu', 'geluTanh'] as const;
const positive = ['log', 'sqrt', 'reciprocal'] as const;
const binary = ['add', 'subtract', 'multiply', 'divide'] as const;
const broadcasts = { same: [2, 5, 33], rows: [33], columns: [2, 5, 1], scalar: [] };

export const cases: readonly OperationCase[] = [
  ...everywhere.map((name): OperationCase => ({
    name,
    inputs: (random) => ({ x: normal(random, [3, 37], 3) }),
    run: (input) => [ops[name](input('x'))],
  })),
  ...positive.map((name): OperationCase => ({
    name,
    inputs: (random) => ({ x: uniform(random, [3, 37], 0.25, 4) }),
    run: (input) => [ops[name](input('x'))],
  })),
  ...binary.flatMap((name) =>
    Object.entries(broadcasts).map(([kind, shape]): OperationCase => ({
      name: `${name}, b broadcast: ${kind}`,
      inputs: (random) => ({ a: normal(random, [2, 5, 33]), b: uniform(random, shape, 0.5, 2) }),
      run: (input) => [ops[name](input('a'), input('b'))],
      reductionLength: 330,
    })),
  ),
  {
    name: 'subtract, a broadcast over rows',
    inputs: (random) => ({ a: normal(random, [33]), b: normal(random, [4, 33]) }),
    run: (input) => [ops.subtract(input('a'), input('b'))],
  },
  {
    name: 'operands with gaps between their rows',
    inputs: (random) => ({ x: normal(random, [3, 40]) }),
    run(input) {
      const [a, b] = split(input('x'), [20, 20]) as [Tensor, Tensor];
      return [ops.multiply(ops.silu(a), ops.affine(b, 2, -1))];
    },
  },
  ...gateActivations.map((activation): OperationCase => ({
    name: `gated by ${activation}`,
    inputs: (random) => ({ gate: normal(random, [3, 5, 24], 3), up: normal(random, [3, 5, 24]) }),
    run: (input) => [gated(input('gate'), input('up'), activation)],
    half: ['gate', 'up'],
  })),
  {
    name: 'gated, one odd row',
    inputs: (random) => ({ gate: normal(random, [37], 3), up: normal(random, [37]) }),
    run: (input) => [gated(input('gate'), input('up'), 'gelu')],
    half: ['gate', 'up'],
  },
  {
    name: 'gated, parts of one projection',
    inputs: (random) => ({ x: normal(random, [4, 46], 2) }),
    run(input) {
      const [gate, up] = split(input('x'), [23, 23]) as [Tensor, Tensor];
      return [gated(gate, up, 'silu')];
    },
    half: ['x'],
  },
];
