import { empty, expectRank, expectShape, launch, operation, record, sizeOf, type FloatDType, type Tensor } from '../../tensor/index.js';
import { relu } from '../elementwise/elementwise.js';
import { roundedFactors } from '../matmul/rounding.js';
import { expectRouting, type Routing } from '../routing/routing.js';
import * as kernels from './kernels.js';

/**
 * Feed-forward layers of which each token goes through one: y = gate·relu(x·first[e])·second[e] of the token's expert e, and 0 for a token that
 * none took. An expert works on its own tokens alone; nothing is computed for the others, and a matrix that nobody chose is not read.
 *
 * @param x [..., D] f32 or f16
 * @param gates [n] f32, one for each token
 * @param routing as `routeTokens` gives it
 * @param first [E,D,F] f32 or f16 @param second [E,F,D], likewise
 * @returns [..., D] of x's dtype; differentiable by x, gates, first and second
 * @throws ShapeError when the shapes do not fit; ArgumentError for a routing that `routeTokens` did not make
 */
export function experts(x: Tensor, gates: Tensor, routing: Routing, first: Tensor, second: Tensor): Tensor<FloatDType> {
  const name = 'experts';
  const { counts, offsets, order, place } = routing;
  const integers = { 'routing.counts': [counts, 'i32'], 'routing.offsets': [offsets, 'i32'], 'routing.order': [order, 'i32'], 'routing.place': [place, 'i32'] } as const;
  return operation(name, { x: [x, 'float'], gates: [gates, 'f32'], first: [first, 'float'], second: [second, 'float'], ...integers }, () => {
    expectRouting(name, routing);
    expectRank(name, 'first', first.shape, 3, '[E,D,F]');
    const [groups = 0, width = 0, inner = 0] = first.shape;
    const outer = x.shape.slice(0, -1);
    const tokens = sizeOf(outer);
    expectShape(name, 'second', second.shape, [groups, inner, width], '[E,F,D]', 'first is [E,D,F]');
    expectShape(name, 'x', x.shape, [...outer, width], '[…,D]', 'first is [E,D,F]');
    expectShape(name, 'gates', gates.shape, [tokens], '[n]', 'n tokens are in x');
    expectShape(name, 'routing.offsets', offsets.shape, [groups + 1], '[E+1]', 'first is [E,D,F]');
    for (const part of ['order', 'place'] as const) expectShape(name, `routing.${part}`, routing[part].shape, [tokens], '[n]', 'n tokens are in x');
    const hidden = relu(groupedLinear(grouped(x, routing), first, offsets));
    return ungrouped(groupedLinear(hidden, second, offsets), gates, routing, x.shape);
  });
}

/** y[i] = x[index[i]], times scale[i], or with `scaleFrom` scale[index[i]]; [rows, columns]. */
function gathered(x: Tensor, index: Tensor, shape: readonly number[], scale: Tensor | null = null, scaleFrom = false): Tensor<FloatDType> {
  const y = empty(x.backend, shape, x.dtype as FloatDType);
  launch(kernels.gatherRows, { x, index, scale, y }, { rows: index.size, columns: x.columns, xPitch: x.pitch, scaleFrom });
  return y;
}

/** The tokens in the order of `routing`, [n,D]. */
function grouped(x: Tensor, { order, place }: Routing): Tensor<FloatDType> {
  const y = gathered(x, order, [order.size, x.columns]);
  const { shape } = x;
  record({
    operation: 'experts: grouping tokens',
    inputs: [x],
    outputs: [y],
    saved: { place },
    backward: ({ cotangents: [dy], saved }) => [dy ? gathered(dy, saved.place, shape) : null],
  });
  return y;
}

/** The tokens in their own order, each times its gate. */
function ungrouped(x: Tensor, gates: Tensor, { order, place }: Routing, shape: readonly number[]): Tensor<FloatDType> {
  const y = gathered(x, place, shape, gates);
  record({
    operation: 'experts: gates',
    inputs: [x, gates],
    outputs: [y],
    saved: { x, gates, order, place },
    backward({ cotangents: [dy], saved, needed }) {
      if (!dy) return [null, null];
      const dx = needed[0] ? gathered(dy, saved.order, saved.x.shape, saved.gates, true) : null;
      const dGates = needed[1] ? empty(dy.backend, saved.gates.shape, 'f32') : null;
      const extents = { rows: place.size, columns: dy.columns, xPitch: saved.x.pitch, yPitch: dy.pitch };
      if (dGates) launch(kernels.rowDots, { x: saved.x, index: saved.place, y: dy, d: dGates }, extents);
      return [dx, dGates];
    },
  });
  return y;
}

/** Each group's rows times its matrix: x [n,K], weight [E,K,N], [n,N]. */
function groupedLinear(x: Tensor, weight: Tensor, offsets: Tensor): Tensor<FloatDType> {
  const { backend, rows } = x;
  const [groups = 0, k = 0, n = 0] = weight.shape;
  const rounded = roundedFactors(backend.precision, rows);
  const y = empty(backend, [rows, n], x.dtype as FloatDType);
  launch(kernels.groupedProduct, { a: x, b: weight, offsets, c: y }, { rows, n, k, groups, transposeB: false, lda: x.pitch, ...rounded });
  record({
    operation: 'experts: product',
    inputs: [x, weight],
    outputs: [y],
    saved: { x, weight, offsets },
    backward({ cotangents: [dy], saved, needed, sums: [, sum] }) {
      if (!dy) return [null, null];
      const dx = needed[0] ? empty(backend, saved.x.shape, saved.x.dtype as FloatDType) : null;
      const extents = { rows, groups, ...rounded };
      if (dx) launch(kernels.groupedProduct, { a: dy, b: saved.weight, offsets: saved.offsets, c: dx }, { ...extents, n: k, k: n, transposeB: true, lda: dy.pitch });
      const dWeight = needed[1] ? (sum?.total ?? empty(backend, weight.shape, weight.dtype as FloatDType)) : null;
      if (dWeight) {
        const pitches = { lda: saved.x.pitch, ldb: dy.pitch, accumulate: sum?.empty === false };
        launch(kernels.groupedWeights, { a: saved.x, b: dy, offsets: saved.offsets, c: dWeight }, { ...extents, m: k, n, ...pitches });
      }
      if (!dWeight || !sum) return [dx, dWeight];
      sum.empty = false;
      return [dx, null];
    },
  });
  return y;
}
