import type { Tensor } from '../../tensor/index.js';
import { normal, type OperationCase } from '../cases.js';
import { routeTokens, type RouteOptions } from '../routing/routing.js';
import { split } from '../view/view.js';
import { experts } from './experts.js';

interface Sizes {
  readonly outer: readonly number[];
  readonly width: number;
  readonly inner: number;
  readonly groups: number;
}

const expertsCase = (name: string, { outer, width, inner, groups }: Sizes, options: RouteOptions & { readonly large?: boolean; readonly gap?: number } = {}): OperationCase => {
  const { large = false, gap = 0, ...route } = options;
  const tokens = outer.reduce((a, b) => a * b, 1);
  return {
    name,
    inputs: (random) => ({
      ...{ x: normal(random, [...outer, gap + width]), gate: normal(random, [width, groups]) },
      ...{ first: normal(random, [groups, width, inner], width ** -0.5), second: normal(random, [groups, inner, width], inner ** -0.5) },
    }),
    run(input) {
      const x = gap === 0 ? input('x') : (split(input('x'), [gap, width])[1] as Tensor);
      const { gates, routing } = routeTokens(x, input('gate'), route);
      return [experts(x, gates, routing, input('first'), input('second'))];
    },
    reductionLength: Math.max(tokens, width, inner),
    half: ['x', 'first', 'second'],
    large,
  };
};

export const cases: readonly OperationCase[] = [
  expertsCase('one token, E 3', { outer: [1], width: 5, inner: 7, groups: 3 }),
  expertsCase('n 2, E 8: few tokens, most experts without one', { outer: [2], width: 12, inner: 20, groups: 8 }),
  expertsCase('n 18, E 4', { outer: [2, 9], width: 6, inner: 10, groups: 4 }),
  expertsCase('n 24, E 5, dropped tokens', { outer: [2, 12], width: 8, inner: 7, groups: 5 }, { capacityFactor: 1 }),
  expertsCase('n 20, E 2, gaps between rows', { outer: [4, 5], width: 9, inner: 4, groups: 2 }, { gap: 3, capacityFactor: 0.5 }),
  expertsCase('n 5, E 12, all dropped', { outer: [5], width: 4, inner: 6, groups: 12 }, { capacityFactor: 1 }),
  expertsCase('n 24, E 1', { outer: [24], width: 8, inner: 12, groups: 1 }),
  expertsCase('n 150, E 3, in vectors', { outer: [150], width: 16, inner: 24, groups: 3 }, { large: true }),
  expertsCase('n 500, E 4, whole tiles', { outer: [2, 250], width: 64, inner: 192, groups: 4 }, { large: true, capacityFactor: 1 }),
  expertsCase('n 9, E 4, few tokens of some size', { outer: [9], width: 100, inner: 300, groups: 4 }, { large: true }),
  expertsCase('n 4, E 3, decoding', { outer: [4], width: 256, inner: 512, groups: 3 }, { large: true }),
];
