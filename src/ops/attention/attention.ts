import { empty, expectNumber, expectRank, expectShape, formatShape, isRecording, launch, operation, record, type FloatDType, type Operand, type Tensor } from '../../tensor/index.js';
import { DTypeError, ShapeError } from '../../util/errors.js';
import * as kernels from './kernels.js';
import { largestSize, pageLength } from './reference.js';

/** Keys and values of earlier positions, in pages of 64 positions that need not lie in order. */
export interface AttentionCache {
  /** [pages,64,G,P] f32 or f16, read up to `positions`, then written */
  readonly keys: Tensor;
  /** [pages,64,G,P], of the same dtype */
  readonly values: Tensor;
  /** [B,n] i32: position j of sequence b is row j mod 64 of page pages[b, ⌊j/64⌋]; n·64 is more than any position of the pass. */
  readonly pages: Tensor;
  /** [B] i32: how many positions came before the pass. */
  readonly positions: Tensor;
}

/** Options of `attention`. */
export interface AttentionOptions {
  /** Multiplies the products of queries and keys; default 1/√P. */
  readonly scale?: number | undefined;
  /** How many positions a query sees at most, its own included; default: all before it. */
  readonly window?: number | undefined;
  /** [B,L] i32, what `documentBegins` gives: the first position that each query may see. */
  readonly begins?: Tensor | null | undefined;
  /** Where the keys and values of earlier positions are, and those of this pass go. No gradient goes to earlier positions. */
  readonly cache?: AttentionCache | undefined;
}

/**
 * Causal attention with grouped queries: head h of the queries reads head ⌊h·G/H⌋ of keys and values.
 *
 *     y[t] = Σⱼ softmax_j(scale · q[t]·k[j]) v[j]      over the j ≤ t that the options let it see
 *
 * No [L,L] matrix is ever in memory: kernels go over tiles of keys with a running maximum and sum, and the backward pass works
 * the weights out again from the saved logarithms of sums.
 *
 * @param q [B,L,H,P] f32 or f16, P ≤ 256
 * @param k [B,L,G,P], G a divisor of H
 * @param v [B,L,G,P]
 * @returns [B,L,H,P] of q's dtype
 * @throws ShapeError, ArgumentError
 *
 * Source: Vaswani et al. (2017), section 3.2.1; Ainslie et al., "GQA" (2023), section 2.2; the tiling is that of Dao et al.,
 * "FlashAttention" (2022), algorithms 1 and 4.
 */
export function attention(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions = {}): Tensor<FloatDType> {
  const { begins = null, cache, window = 0 } = options;
  const operands: Record<string, Operand> = {
    ...{ q: [q, 'float'], k: [k, 'float'], v: [v, 'float'], begins: [begins, 'i32?'] },
    ...{ 'cache.keys': [cache?.keys, 'float?'], 'cache.values': [cache?.values, 'float?'] },
    ...{ 'cache.pages': [cache?.pages, 'i32?'], 'cache.positions': [cache?.positions, 'i32?'] },
  };
  return operation('attention', operands, () => {
    const sizes = checkSizes(q, k, v, begins);
    const { batch, length, heads, kvHeads, size } = sizes;
    const dtypes = [q.dtype, k.dtype, v.dtype] as [FloatDType, FloatDType, FloatDType];
    const { scale = 1 / Math.sqrt(size) } = options;
    expectNumber('attention', 'scale', scale, Number.isFinite, 'a finite number');
    expectNumber('attention', 'window', window, (n) => Number.isInteger(n) && n >= 0, 'an integer ≥ 1, or 0 for no limit');
    const pagesPerRow = cache === undefined ? 0 : checkCache(cache, sizes);
    if (cache !== undefined) {
      const extents = { batch, length, heads: kvHeads, size, pagesPerRow, keyPitch: k.pitch, valuePitch: v.pitch, halfKeys: cache.keys.dtype === 'f16' };
      const { positions, pages, keys: keyPool, values: valuePool } = cache;
      launch(kernels.appendPositions, { keys: k, values: v, positions, pages, keyPool, valuePool }, extents);
    }
    const y = empty(q.backend, q.shape, q.dtype as FloatDType);
    const logSums = isRecording() ? empty(q.backend, [batch, heads, length]) : null;
    const pitchesOf = (of: Readonly<Record<'q' | 'k' | 'v', Tensor>>) => ({ qPitch: of.q.pitch, kPitch: of.k.pitch, vPitch: of.v.pitch });
    const read = { q, k: cache?.keys ?? k, v: cache?.values ?? v };
    const extents = { ...sizes, pagesPerRow, window, scale, halfKeys: read.k.dtype === 'f16' };
    const places = { begins, positions: cache?.positions ?? null, pages: cache?.pages ?? null };
    launch(kernels.attention, { ...read, ...places, y, logSums }, { ...extents, ...pitchesOf(read) });
    if (logSums) {
      record({
        operation: 'attention',
        inputs: [q, k, v],
        outputs: [y],
        saved: { ...read, ...places, y, logSums },
        backward({ cotangents: [dy], saved, needed }) {
          if (!dy) return [null, null, null];
          const deltas = empty(dy.backend, [batch, heads, length]);
          const own = [batch, length, kvHeads, size];
          const gradient = (i: number, shape: readonly number[], dtype: FloatDType) => (needed[i] ? empty(dy.backend, shape, dtype) : null);
          const [dq, dk, dv] = [gradient(0, saved.q.shape, dtypes[0]), gradient(1, own, dtypes[1]), gradient(2, own, dtypes[2])];
          launch(kernels.attentionBackward, { ...saved, dy, deltas, dq, dk, dv }, { ...extents, ...pitchesOf(saved), dyPitch: dy.pitch });
          return [dq, dk, dv];
        },
      });
    }
    return y;
  });
}

/**
 * For each position of a pass, where its document starts: what `attention` takes as `begins`.
 * @param sequenceStarts [B,L] i32, nonzero where a document starts
 * @returns [B,L] i32
 */
export function documentBegins(sequenceStarts: Tensor): Tensor<'i32'> {
  return operation('documentBegins', { sequenceStarts: [sequenceStarts, 'i32'] }, () => {
    expectRank('documentBegins', 'sequenceStarts', sequenceStarts.shape, 2, '[B,L]');
    const { rows: batch, columns: length, backend, pitch: startsPitch } = sequenceStarts;
    const begins = empty(backend, [batch, length], 'i32');
    launch(kernels.documentBegins, { starts: sequenceStarts, positions: null, before: null, begins, after: null }, { batch, length, startsPitch });
    return begins;
  });
}

interface Sizes {
  readonly batch: number;
  readonly length: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly size: number;
}

function checkSizes(q: Tensor, k: Tensor, v: Tensor, begins: Tensor | null): Sizes {
  expectRank('attention', 'q', q.shape, 4, '[B,L,H,P]');
  expectRank('attention', 'k', k.shape, 4, '[B,L,G,P]');
  const [batch = 0, length = 0, heads = 0, size = 0] = q.shape;
  if (size > largestSize) {
    throw new ShapeError({ operation: 'attention', argument: 'q', expected: `[B,L,H,P] with P ≤ ${largestSize}`, got: formatShape(q.shape) });
  }
  const kvHeads = k.shape[2] ?? 0;
  const keyShape = [batch, length, kvHeads, size];
  expectShape('attention', 'k', k.shape, keyShape, '[B,L,G,P]');
  expectShape('attention', 'v', v.shape, keyShape, '[B,L,G,P]');
  if (heads % kvHeads !== 0) {
    const expected = `[B,L,G,P] with G a divisor of H = ${heads}`;
    throw new ShapeError({ operation: 'attention', argument: 'k', expected, got: formatShape(k.shape) });
  }
  if (begins) expectShape('attention', 'begins', begins.shape, [batch, length], '[B,L]');
  return { batch, length, heads, kvHeads, size };
}

/** @returns pages a row */
function checkCache({ keys, values, pages, positions }: AttentionCache, { batch, kvHeads, size }: Sizes): number {
  const poolShape = [keys.shape[0] ?? 0, pageLength, kvHeads, size];
  expectShape('attention', 'cache.keys', keys.shape, poolShape, '[pages,64,G,P]');
  expectShape('attention', 'cache.values', values.shape, poolShape, '[pages,64,G,P]');
  if (values.dtype !== keys.dtype) throw new DTypeError({ operation: 'attention', argument: 'cache.values', expected: `${keys.dtype}, as cache.keys is`, got: values.dtype });
  expectShape('attention', 'cache.pages', pages.shape, [batch, pages.columns], '[B,n]');
  expectShape('attention', 'cache.positions', positions.shape, [batch], '[B]');
  return pages.columns;
}
