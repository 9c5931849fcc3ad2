import { multiply } from '../elementwise/elementwise.js';
import { normal, type OperationCase } from '../cases.js';
import { reshape } from '../view/view.js';
import { routeTokens, type RouteOptions } from './routing.js';

const routingCase = (name: string, [outer, width, experts]: readonly [outer: readonly number[], width: number, experts: number], options: RouteOptions, large = false): OperationCase => ({
  name,
  inputs: (random) => ({ x: normal(random, [...outer, width]), gate: normal(random, [width, experts], 0.5) }),
  run(input) {
    const { routing, gates, auxiliary } = routeTokens(input('x'), input('gate'), options);
    const { choice, counts, offsets, order, place } = routing;
    // Its values are the balance's and the z-loss's by turns; the share that was dropped has no gradient.
    return [gates, choice, counts, offsets, order, place, ...(auxiliary === null ? [] : [auxiliary.balance, auxiliary.z, auxiliary.dropped])];
  },
  reductionLength: Math.max(width, outer.reduce((a, b) => a * b, 1)),
  large,
});

const losses = { balance: 0.5, z: 0.25 };

export const cases: readonly OperationCase[] = [
  routingCase('n 1, E 1', [[1], 3, 1], {}),
  routingCase('n 6, E 3', [[2, 3], 5, 3], {}),
  routingCase('n 18, E 4, losses', [[2, 9], 6, 4], { losses }),
  routingCase('n 24, E 5, capacity, losses', [[2, 12], 8, 5], { capacityFactor: 1, losses }),
  routingCase('n 7, E 12, no capacity', [[7], 4, 12], { capacityFactor: 1, losses }),
  routingCase('n 50, E 2, little capacity', [[50], 7, 2], { capacityFactor: 0.3, losses }),
  routingCase('n 700, E 9, capacity, losses', [[7, 100], 16, 9], { capacityFactor: 1, losses }, true),
  routingCase('n 3000, E 300', [[3, 1000], 5, 300], { capacityFactor: 1.5, losses }, true),
  {
    name: 'equal probabilities: the first expert',
    inputs: (random) => ({ x: normal(random, [9, 4]), gate: { shape: [4, 3], values: new Float32Array(12) } }),
    differentiable: [],
    run(input) {
      const { routing, gates } = routeTokens(input('x'), input('gate'), { capacityFactor: 1 });
      return [gates, routing.choice, routing.order, routing.place];
    },
  },
  {
    name: 'gates alone',
    inputs: (random) => ({ x: normal(random, [2, 11, 6]), gate: normal(random, [6, 4]), scale: normal(random, [22]) }),
    run: (input) => [reshape(multiply(routeTokens(input('x'), input('gate')).gates, input('scale')), [2, 11])],
    reductionLength: 22,
  },
];
