import { defineKernel, inout, input, optionalInput, optionalOutput, output } from '../../tensor/index.js';
import { forEachQuery, keyRow, seenKeys, type AttentionSizes } from './reference.js';
import { advanceGpu, appendPositionsGpu, attentionBackwardGpu, attentionGpu, documentBeginsGpu } from './webgpu/index.js';

const sizes = {
  batch: 'int',
  length: 'int',
  heads: 'int',
  kvHeads: 'int',
  size: 'int',
  pagesPerRow: 'int',
  window: 'int',
  scale: 'float',
  halfKeys: 'flag',
} as const;

/** Multiplications and additions of queries that see all before them: two products of `size` for each pair. */
const pairOperations = ({ batch, length, heads, size }: AttentionSizes): number => 2 * batch * heads * length * (length + 1) * size;

/** Without pages, batch rows are apart from each other. With them, keys and values are a pool of all rows'. */
const perRow = (p: AttentionSizes & { qPitch: number; kPitch: number; vPitch: number }) => {
  const { length, heads, kvHeads, size } = p;
  const own = { q: length * heads * p.qPitch, y: length * heads * size, logSums: heads * length };
  const paged = { positions: 1, begins: length, pages: p.pagesPerRow };
  return p.pagesPerRow > 0 ? { ...own, ...paged } : { ...own, ...paged, k: length * kvHeads * p.kPitch, v: length * kvHeads * p.vPitch };
};

/**
 * Causal attention. Query t of sequence b, head h is at position positions[b] + t (t without positions) and sees the keys at
 * positions j ≤ its own, j ≥ begins[b, t] (0 without begins), and within the last `window` positions, its own included (0: all).
 *
 *     s_j = scale · q·k_j      y = Σⱼ e^(s_j) v_j / Σⱼ e^(s_j)      logSums = ln Σⱼ e^(s_j)
 *
 * Head h reads the keys and values of head ⌊h·kvHeads/heads⌋. q [batch, length, heads, size], k and v [batch, length, kvHeads, size],
 * heads qPitch, kPitch and vPitch apart. With pagesPerRow > 0, k and v are pools [pages, 64, kvHeads, size], and position j of
 * sequence b is row j mod 64 of page pages[b, ⌊j/64⌋]; positions, and pages [batch, pagesPerRow], are then given. halfKeys: k and v are f16, which
 * compiled kernels are told. logSums [batch, heads, length].
 */
export const attention = defineKernel('attention', {
  buffers: {
    q: input.float,
    k: input.stored,
    v: input.stored,
    positions: optionalInput.i32,
    begins: optionalInput.i32,
    pages: optionalInput.i32,
    y: output.float,
    logSums: optionalOutput.f32,
  },
  parameters: { ...sizes, qPitch: 'int', kPitch: 'int', vPitch: 'int' },
  operations: pairOperations,
  divisions: (p) => [{ along: 'batch', strides: perRow(p) }],
  webgpu: attentionGpu,
  reference({ q, k, v, positions, begins, pages, y, logSums }, p) {
    const { length, heads, size, qPitch, kPitch, vPitch, scale } = p;
    forEachQuery(p, (b, t, h) => {
      const at = ((b * length + t) * heads + h) * qPitch;
      const keys = seenKeys(p, { positions, begins }, b, t);
      const rows = keys.map((j) => keyRow(p, pages, b, j, h));
      const scores = rows.map((row) => scale * dot(q, at, k, row * kPitch, size));
      const largest = Math.max(...scores);
      const logSum = largest + Math.log(scores.reduce((sum, s) => sum + Math.exp(s - largest), 0));
      const to = ((b * length + t) * heads + h) * size;
      y.fill(0, to, to + size);
      rows.forEach((row, i) => addScaled(y, to, v, row * vPitch, Math.exp((scores[i] ?? NaN) - logSum), size));
      if (logSums) logSums[(b * heads + h) * length + t] = logSum;
    });
  },
});

/**
 * The gradient of `attention` for the queries, and for the keys and values of the pass's own positions, [batch, length, kvHeads, size]:
 * with w_j = e^(s_j − logSums) and δ = y·dy,
 *
 *     ds_j = w_j·(dy·v_j − δ)      dq = scale · Σⱼ ds_j k_j      dk_j = scale · Σ ds_j q      dv_j = Σ w_j dy      (sums over the queries that see j)
 *
 * `deltas` [batch, heads, length] is working space, which gets δ.
 */
export const attentionBackward = defineKernel('attention_backward', {
  buffers: {
    q: input.float,
    k: input.stored,
    v: input.stored,
    positions: optionalInput.i32,
    begins: optionalInput.i32,
    pages: optionalInput.i32,
    y: input.float,
    logSums: input.f32,
    dy: input.float,
    deltas: output.f32,
    dq: optionalOutput.float,
    dk: optionalOutput.float,
    dv: optionalOutput.float,
  },
  parameters: { ...sizes, qPitch: 'int', kPitch: 'int', vPitch: 'int', dyPitch: 'int' },
  operations: (p) => 3.5 * pairOperations(p),
  divisions(p) {
    const { length, heads, kvHeads, size } = p;
    const own = { dy: length * heads * p.dyPitch, deltas: heads * length, dq: length * heads * size };
    const keys = { dk: length * kvHeads * size, dv: length * kvHeads * size };
    return [{ along: 'batch', strides: { ...perRow(p), ...own, ...keys } }];
  },
  webgpu: attentionBackwardGpu,
  reference({ q, k, v, positions, begins, pages, y, logSums, dy, deltas, dq, dk, dv }, p) {
    const { length, heads, kvHeads, size, qPitch, kPitch, vPitch, dyPitch, scale } = p;
    dq?.fill(0);
    dk?.fill(0);
    dv?.fill(0);
    forEachQuery(p, (b, t, h) => {
      const row = (b * length + t) * heads + h;
      const place = (b * heads + h) * length + t;
      const delta = dot(y, row * size, dy, row * dyPitch, size);
      deltas[place] = delta;
      for (const j of seenKeys(p, { positions, begins }, b, t)) {
        const key = keyRow(p, pages, b, j, h);
        const weight = Math.exp(scale * dot(q, row * qPitch, k, key * kPitch, size) - (logSums[place] ?? NaN));
        const slope = scale * weight * (dot(dy, row * dyPitch, v, key * vPitch, size) - delta);
        if (dq) addScaled(dq, row * size, k, key * kPitch, slope, size);
        const own = j - (positions?.[b] ?? 0);
        if (own < 0) continue;
        const to = ((b * length + own) * kvHeads + Math.floor((h * kvHeads) / heads)) * size;
        if (dk) addScaled(dk, to, q, row * qPitch, slope, size);
        if (dv) addScaled(dv, to, dy, row * dyPitch, weight, size);
      }
    });
  },
});

/**
 * Writes the keys and values of a pass to the pages of its positions: row positions[b] + t of sequence b gets keys[b, t] and values[b, t].
 * keys and values [batch, length, heads, size], heads keyPitch and valuePitch apart; the pools [pages, 64, heads, size], f16 where halfKeys;
 * pages [batch, pagesPerRow].
 */
export const appendPositions = defineKernel('append_positions', {
  buffers: { keys: input.float, values: input.float, positions: input.i32, pages: input.i32, keyPool: inout.stored, valuePool: inout.stored },
  parameters: { batch: 'int', length: 'int', heads: 'int', size: 'int', pagesPerRow: 'int', keyPitch: 'int', valuePitch: 'int', halfKeys: 'flag' },
  divisions: ({ length, heads, pagesPerRow, keyPitch, valuePitch }) => [
    { along: 'batch', strides: { keys: length * heads * keyPitch, values: length * heads * valuePitch, positions: 1, pages: pagesPerRow } },
  ],
  touched: ({ batch, length, heads, size }) => ({ keyPool: batch * length * heads * size, valuePool: batch * length * heads * size }),
  webgpu: appendPositionsGpu,
  reference({ keys, values, positions, pages, keyPool, valuePool }, p) {
    const { batch, length, heads, size, keyPitch, valuePitch } = p;
    for (let b = 0; b < batch; b++) {
      for (let t = 0; t < length; t++) {
        for (let h = 0; h < heads; h++) {
          const from = (b * length + t) * heads + h;
          const to = keyRow({ ...p, kvHeads: heads }, pages, b, (positions[b] ?? 0) + t, h);
          keyPool.set(keys.subarray(from * keyPitch, from * keyPitch + size), to * size);
          valuePool.set(values.subarray(from * valuePitch, from * valuePitch + size), to * size);
        }
      }
    }
  },
});

/**
 * For each position of a pass, the position at which its document starts: begins[b, t] is positions[b] + the last i ≤ t with
 * starts[b, i] ≠ 0, or before[b] (0 without it) where there is none. after[b] is that of the last position.
 */
export const documentBegins = defineKernel('document_begins', {
  buffers: { starts: optionalInput.i32, positions: optionalInput.i32, before: optionalInput.i32, begins: output.i32, after: optionalOutput.i32 },
  parameters: { batch: 'int', length: 'int', startsPitch: 'int' },
  divisions: ({ length, startsPitch }) => [{ along: 'batch', strides: { starts: startsPitch, positions: 1, before: 1, begins: length, after: 1 } }],
  webgpu: documentBeginsGpu,
  reference({ starts, positions, before, begins, after }, { batch, length, startsPitch }) {
    for (let b = 0; b < batch; b++) {
      let begin = before?.[b] ?? 0;
      for (let t = 0; t < length; t++) {
        if (starts && starts[b * startsPitch + t] !== 0) begin = (positions?.[b] ?? 0) + t;
        begins[b * length + t] = begin;
      }
      if (after) after[b] = begin;
    }
  },
});

/** positions[b] += by */
export const advance = defineKernel('advance', {
  buffers: { positions: inout.i32 },
  parameters: { count: 'int', by: 'int' },
  webgpu: advanceGpu,
  reference({ positions }, { count, by }) {
    for (let b = 0; b < count; b++) positions[b] = (positions[b] ?? 0) + by;
  },
});

function dot(a: Float64Array, aAt: number, b: Float64Array, bAt: number, size: number): number {
  let sum = 0;
  for (let i = 0; i < size; i++) sum += (a[aAt + i] ?? NaN) * (b[bAt + i] ?? NaN);
  return sum;
}

function addScaled(to: Float64Array, toAt: number, from: Float64Array, fromAt: number, factor: number, size: number): void {
  for (let i = 0; i < size; i++) to[toAt + i] = (to[toAt + i] ?? NaN) + factor * (from[fromAt + i] ?? NaN);
}
