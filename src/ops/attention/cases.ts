import type { Tensor } from '../../tensor/index.js';
import type { Random } from '../../util/random.js';
import { normal, type CaseInput, type OperationCase } from '../cases.js';
import { split } from '../view/view.js';
import { attention, documentBegins, type AttentionOptions } from './attention.js';
import { pageLength } from './reference.js';

interface Sizes {
  readonly batch?: number;
  readonly length: number;
  readonly heads?: number;
  readonly kvHeads?: number;
  readonly size?: number;
}

const shapesOf = ({ batch = 1, length, heads = 2, kvHeads = heads, size = 8 }: Sizes) => ({
  q: [batch, length, heads, size],
  k: [batch, length, kvHeads, size],
});

const describe = ({ q, k }: ReturnType<typeof shapesOf>) => `q [${q.join(',')}], k [${k.join(',')}]`;

/** Documents that start at some positions of each row, by `sequenceStarts`. */
function starts(batch: number, length: number, ...at: (readonly number[])[]): CaseInput {
  const values = new Int32Array(batch * length);
  at.forEach((places, b) => places.forEach((t) => (values[b * length + t] = 1)));
  return { shape: [batch, length], dtype: 'i32', values };
}

function plain(sizes: Sizes, options: AttentionOptions = {}, name = '', spread = 1): OperationCase {
  const shapes = shapesOf(sizes);
  const pairs = shapes.q.reduce((a, b) => a * b) * sizes.length;
  return {
    name: `${describe(shapes)}${name}`,
    inputs: (random) => ({ q: normal(random, shapes.q, spread), k: normal(random, shapes.k, spread), v: normal(random, shapes.k) }),
    run: (input) => [attention(input('q'), input('k'), input('v'), options)],
    half: ['q', 'k', 'v'],
    reductionLength: sizes.length,
    large: pairs > 20_000,
  };
}

function documents(sizes: Required<Pick<Sizes, 'batch'>> & Sizes, window: number, ...at: (readonly number[])[]): OperationCase {
  const shapes = shapesOf(sizes);
  const { batch, length } = sizes;
  return {
    name: `${describe(shapes)}, documents${window > 0 ? `, a window of ${window}` : ''}`,
    inputs: (random) => ({
      ...{ q: normal(random, shapes.q), k: normal(random, shapes.k), v: normal(random, shapes.k) },
      starts: starts(batch, length, ...at),
    }),
    run: (input) => [attention(input('q'), input('k'), input('v'), { begins: documentBegins(input('starts')), window })],
    half: ['q', 'k', 'v'],
    reductionLength: length,
    large: shapes.q.reduce((a, b) => a * b) * length > 20_000,
  };
}

/** A pass over some positions after others, whose keys and values lie in pages out of order. */
function paged(sizes: Required<Pick<Sizes, 'batch'>> & Sizes, before: readonly number[], { window = 0, pools = false } = {}): OperationCase {
  const { batch, length } = sizes;
  const { q, k } = shapesOf(sizes);
  const perRow = Math.ceil((Math.max(...before) + length) / pageLength);
  const count = batch * perRow + 1;
  const pool = [count, pageLength, ...k.slice(2)];
  // Backwards, and page 0 of nobody.
  const pages = Array.from({ length: batch * perRow }, (_, i) => count - 1 - i);
  /** NaN where no position is yet, unless the pools are compared. */
  const filled = (random: Random): CaseInput => {
    const { shape, values } = normal(random, pool);
    const row = values.length / count / pageLength;
    const isWritten = (at: number) => {
      const place = pages.indexOf(Math.floor(at / pageLength));
      return place >= 0 && (place % perRow) * pageLength + (at % pageLength) < (before[Math.floor(place / perRow)] ?? NaN);
    };
    return { shape, values: Float32Array.from(values, (value, i) => (pools || isWritten(Math.floor(i / row)) ? value : NaN)) };
  };
  return {
    name: `${describe({ q, k })} after ${before.join(', ')} positions${window > 0 ? `, a window of ${window}` : ''}${pools ? ', and the pools' : ''}`,
    inputs: (random) => ({
      ...{ q: normal(random, q), k: normal(random, k), v: normal(random, k) },
      ...{ keys: filled(random), values: filled(random) },
      positions: { shape: [batch], dtype: 'i32' as const, values: before },
      pages: { shape: [batch, perRow], dtype: 'i32' as const, values: pages },
    }),
    run(input) {
      const cache = { keys: input('keys'), values: input('values'), pages: input('pages'), positions: input('positions') };
      const y = attention(input('q'), input('k'), input('v'), { cache, window });
      return pools ? [y, input('keys').retain(), input('values').retain()] : [y];
    },
    differentiable: ['q', 'k', 'v'],
    // A pool in float32 takes halves too.
    half: ['q', 'k', 'v', ...(pools ? [] : ['keys', 'values'])],
    reductionLength: Math.max(...before) + length,
    // What is written to the pools is not recorded.
    large: pools || q.reduce((a, b) => a * b) * (Math.max(...before) + length) > 20_000,
  };
}

export const cases: readonly OperationCase[] = [
  plain({ length: 1 }),
  plain({ batch: 2, length: 7, heads: 3, size: 4 }),
  plain({ length: 13, heads: 4, kvHeads: 2 }, { scale: 0.3 }, ', scale 0.3'),
  plain({ batch: 2, length: 9, heads: 6, kvHeads: 1, size: 5 }),
  plain({ length: 20, heads: 1, size: 16 }, { window: 6 }, ', a window of 6'),
  plain({ length: 10, size: 8 }, {}, ', sharp', 4),
  plain({ length: 64, heads: 2, size: 64 }),
  plain({ length: 90, heads: 1, size: 32 }, {}, ', sharp', 3),
  plain({ batch: 2, length: 65, heads: 2, kvHeads: 1, size: 32 }),
  plain({ length: 200, heads: 4, kvHeads: 2, size: 64 }),
  plain({ length: 150, heads: 2, size: 80 }, { window: 70 }, ', a window of 70'),
  plain({ length: 130, heads: 1, size: 128 }),
  plain({ length: 70, heads: 1, size: 256 }),
  documents({ batch: 2, length: 12, heads: 4, kvHeads: 2 }, 0, [0, 5, 6], [3]),
  documents({ batch: 2, length: 12, heads: 4, kvHeads: 2 }, 3, [7], []),
  documents({ batch: 2, length: 190, heads: 2, kvHeads: 1, size: 16 }, 0, [0, 64, 100], [130]),
  paged({ batch: 1, length: 1 }, [0]),
  paged({ batch: 2, length: 3 }, [5, 2]),
  paged({ batch: 2, length: 1, heads: 4, kvHeads: 2, size: 16 }, [130, 64]),
  paged({ batch: 3, length: 1, heads: 12, kvHeads: 12, size: 64 }, [63, 700, 1]),
  paged({ batch: 2, length: 4, heads: 6, kvHeads: 3, size: 20 }, [61, 200], { window: 66 }),
  paged({ batch: 1, length: 70, heads: 2, size: 32 }, [100], { window: 90 }),
  paged({ batch: 2, length: 40, heads: 4, kvHeads: 1, size: 64 }, [0, 300]),
  paged({ batch: 2, length: 70, heads: 2, size: 16 }, [60, 3], { pools: true }),
  {
    name: 'queries, keys and values in one projection, by heads',
    inputs: (random) => ({ qkv: normal(random, [2, 9, 3, 24]) }),
    run(input) {
      const [q, k, v] = split(input('qkv'), [8, 8, 8]) as [Tensor, Tensor, Tensor];
      return [attention(q, k, v)];
    },
    half: ['qkv'],
    reductionLength: 9,
  },
];
