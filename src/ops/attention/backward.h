// The backward pass. A block of queries is held and tiles of keys pass by; the gradients of keys and values add up block by block, in
// memory. Where threads are more than heads, dq and the gradients of keys and values are passes of their own, with the same sums.
#pragma once
#include "forward.h"

namespace elapid {
namespace ELAPID_TARGET {

struct BackwardScratch {
  float *keys, *values, *queries, *query_rows, *slopes, *slope_rows, *weights, *products, *dq, *dk, *dv, *log_sums, *deltas;

  BackwardScratch(float* scratch, i64 size) {
    const i64 width = padded(size);
    Carver carver{scratch};
    keys = carver.take(kPage * kKeyStride);
    values = carver.take(kPage * kKeyStride);
    queries = carver.take(kBlockRows * size);
    query_rows = carver.take(kBlockRows * width);
    slopes = carver.take(kBlockRows * size);
    slope_rows = carver.take(kBlockRows * width);
    weights = carver.take(kPage * kPanel);
    products = carver.take(kPage * kPanel);
    dq = carver.take(kBlockRows * width);
    dk = carver.take(kPage * width);
    dv = carver.take(kPage * width);
    log_sums = carver.take(kBlockRows);
    deltas = carver.take(kBlockRows);
  }
};

// Products, in units of ln 2, become weights w = 2^(s − logSums), and dots = dy·v become w·(dots − δ).
ELAPID_NOINLINE inline void weights_and_slopes(float* products, float* dots, Span keys, const float* log_sums, const float* deltas) {
  for (i64 v = 0; v < kPanel; v += kLanes) {
    const vf log_sum = load(log_sums + v), delta = load(deltas + v);
    for (i64 j = keys.first; j <= keys.last; j++) {
      float *const p = products + j * kPanel + v, *const d = dots + j * kPanel + v;
      const vf w = exp2(load(p) - log_sum);
      store(p, w);
      store(d, w * (load(d) - delta));
    }
  }
}

// Adds a tile's gradients, times a factor, to the rows of its positions in the pass.
inline void add_gradient(const Sequence<AttentionBackward>& s, const float* from, float factor, i64 kv_head, i64 tile, Span used, float* to) {
  const i64 size = s.a.size, width = padded(size);
  for (i64 j = used.first; j <= used.last; j++) {
    const i64 own = tile * kPage + j - s.before();
    if (own < 0) continue;
    float* const row = to + ((s.batch * s.a.length + own) * s.a.kvHeads + kv_head) * size;
    if (j + kRowsAhead <= used.last) prefetch_row<1>(row + kRowsAhead * s.a.kvHeads * size, size);
    each_vector_of(size, [&](i64 i, i64 n) { store_first(row + i, load_first(row + i, n) + load(from + j * width + i) * splat(factor), n); });
  }
}

// Block `row` of the queries of a head of keys and the tiles of `tiles`: its dq if `to_queries`, and its part of dk and dv if `to_keys`.
inline void attend_block_backward(const AttentionBackward& a, i64 batch, i64 kv_head, i64 row, Span tiles, bool to_queries, bool to_keys,
                                  const BackwardScratch& to) {
  const Sequence<AttentionBackward> s{a, batch};
  const i64 width = padded(a.size), rows = min(s.rows() - row, kBlockRows), panels = ceil_div(rows, kPanel);
  const bool dk = to_keys && a.dk != nullptr, dv = to_keys && a.dv != nullptr;
  Panel panel[kBlockPanels];
  Span all;
  for (i64 p = 0; p < panels; p++) {
    panel[p].set(s, row + p * kPanel);
    all.include(panel[p].any);
  }
  const Span passing{max(all.first / kPage, tiles.first), min(all.last / kPage, tiles.last)};
  if (all.empty() || passing.empty()) return;
  for (i64 p = 0; p < panels; p++) {
    const i64 columns = p * kPanel * a.size, rows_at = p * kPanel * width, first = row + p * kPanel;
    pack_panel(s, a.q, a.qPitch, kv_head, first, panel[p].count, a.scale * kLog2E, to.queries + columns, dk ? to.query_rows + rows_at : nullptr);
    pack_panel(s, a.dy, a.dyPitch, kv_head, first, panel[p].count, 1.0f, to.slopes + columns, dv ? to.slope_rows + rows_at : nullptr);
  }
  for (i64 r = 0; r < panels * kPanel; r++) {
    const i64 place = r < rows ? s.query_place(kv_head, row + r) : 0;
    to.log_sums[r] = r < rows ? a.logSums[place] * kLog2E : 0.0f;
    to.deltas[r] = r < rows ? a.deltas[place] : 0.0f;
  }
  if (to_queries) fill_zero(to.dq, panels * kPanel * width);
  for (i64 tile = passing.first; tile <= passing.last; tile++) {
    const Span used = all.within(tile);
    // No gradient goes to positions before the pass.
    const bool own = tile * kPage + used.last >= s.before();
    if (!to_queries && !own) continue;
    pack_tile(s, a.k, a.kPitch, kv_head, tile, used, to.keys);
    pack_tile(s, a.v, a.vPitch, kv_head, tile, used, to.values);
    if (dk && own) fill_zero(to.dk, kPage * width);
    if (dv && own) fill_zero(to.dv, kPage * width);
    for (i64 p = 0; p < panels; p++) {
      const Span keys = panel[p].groups(tile);
      if (keys.empty()) continue;
      const i64 end = keys.last + 1;
      key_products(to.keys, keys.first, end, to.queries + p * kPanel * a.size, a.size, to.weights);
      panel[p].hide(tile, keys, to.weights);
      key_products(to.values, keys.first, end, to.slopes + p * kPanel * a.size, a.size, to.products);
      weights_and_slopes(to.weights, to.products, keys, to.log_sums + p * kPanel, to.deltas + p * kPanel);
      if (dv && own) sum_queries(to.weights, keys.first, end, to.slope_rows + p * kPanel * width, width, to.dv);
      if (dk && own) sum_queries(to.products, keys.first, end, to.query_rows + p * kPanel * width, width, to.dk);
      if (to_queries) sum_keys<Sum::kAdd>(to.products, keys.first, end, to.keys, width, to.dq + p * kPanel * width, nullptr);
    }
    if (dk && own) add_gradient(s, to.dk, kLn2, kv_head, tile, used, a.dk);
    if (dv && own) add_gradient(s, to.dv, 1.0f, kv_head, tile, used, a.dv);
  }
  if (!to_queries) return;
  for (i64 r = 0; r < rows; r++) {
    float* const dq = a.dq + s.query_row(kv_head, row + r) * a.size;
    each_vector_of(a.size, [&](i64 i, i64 n) { store_first(dq + i, load(to.dq + r * width + i) * splat(a.scale), n); });
  }
}

// δ = y·dy, summed in the order of the products dy·v: where a query sees one key they are the same to the bit, and its gradients are 0.
inline void fill_deltas(const AttentionBackward& a, i64 batch, i64 kv_head, i64 row, const BackwardScratch& to) {
  const Sequence<AttentionBackward> s{a, batch};
  for (const i64 end = min(row + kBlockRows, s.rows()); row < end; row += kPanel) {
    const i64 count = min(end - row, kPanel);
    pack_panel(s, a.y, a.size, kv_head, row, count, 1.0f, to.queries, nullptr);
    pack_panel(s, a.dy, a.dyPitch, kv_head, row, count, 1.0f, to.slopes, nullptr);
    for (i64 v = 0; v < kPanel; v += kLanes) {
      vf sum{};
      for (i64 i = 0; i < a.size; i++) sum += load(to.queries + i * kPanel + v) * load(to.slopes + i * kPanel + v);
      store(to.deltas + v, sum);
    }
    for (i64 r = 0; r < count; r++) a.deltas[s.query_place(kv_head, row + r)] = to.deltas[r];
  }
}

// Zeroes the rows of positions [first, last] of the pass.
inline void clear_gradient(const AttentionBackward& a, i64 batch, i64 kv_head, Span own, float* to) {
  if (to == nullptr) return;
  for (i64 t = own.first; t <= own.last; t++) {
    float* const row = to + ((batch * a.length + t) * a.kvHeads + kv_head) * a.size;
    for (i64 i = 0; i < a.size; i++) row[i] = 0.0f;
  }
}

inline void attend_backward(const AttentionBackward& a, Pool& pool) {
  const i64 heads = a.batch * a.kvHeads, rows = a.length * (a.heads / a.kvHeads), blocks = ceil_div(rows, kBlockRows);
  const bool keys = a.dk != nullptr || a.dv != nullptr;
  pool.each(heads * blocks, [&](i64 task, int thread) {
    const i64 head = task / blocks, row = task % blocks * kBlockRows;
    fill_deltas(a, head / a.kvHeads, head % a.kvHeads, row, BackwardScratch(pool.scratch<float>(thread), a.size));
  });
  const auto each_block = [&](i64 head, i64 begin, i64 end, Span tiles, bool to_queries, bool to_keys, int thread) {
    const BackwardScratch scratch(pool.scratch<float>(thread), a.size);
    for (i64 block = begin; block < end; block++)
      attend_block_backward(a, head / a.kvHeads, head % a.kvHeads, block * kBlockRows, tiles, to_queries, to_keys, scratch);
  };
  constexpr Span everything{0, INT64_MAX};
  if (heads >= 2 * pool.threads()) {
    pool.each(heads, [&](i64 head, int thread) {
      const Span own{0, a.length - 1};
      clear_gradient(a, head / a.kvHeads, head % a.kvHeads, own, a.dk);
      clear_gradient(a, head / a.kvHeads, head % a.kvHeads, own, a.dv);
      each_block(head, 0, blocks, everything, a.dq != nullptr, keys, thread);
    });
    return;
  }
  if (a.dq != nullptr) {
    pool.each(heads * blocks, [&](i64 task, int thread) {
      each_block(task / blocks, task % blocks, task % blocks + 1, everything, true, false, thread);
    });
  }
  if (!keys) return;
  // The positions of a pass lie in this many tiles, wherever it begins.
  const i64 tiles = (a.length - 1) / kPage + 2;
  pool.each(heads * tiles, [&](i64 task, int thread) {
    const i64 head = task / tiles;
    const Sequence<AttentionBackward> s{a, head / a.kvHeads};
    const i64 tile = s.before() / kPage + task % tiles;
    const Span own{max(tile * kPage - s.before(), i64(0)), min((tile + 1) * kPage - 1 - s.before(), a.length - 1)};
    if (own.empty()) return;
    clear_gradient(a, s.batch, head % a.kvHeads, own, a.dk);
    clear_gradient(a, s.batch, head % a.kvHeads, own, a.dv);
    each_block(head, 0, blocks, {tile, tile}, false, true, thread);
  });
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
