// The forward pass for many queries: a block of queries is held, and tiles of keys pass by with a running maximum and sum.
#pragma once
#include "../selective-scan/scan-math.h"
#include "sequence.h"

namespace elapid {
namespace ELAPID_TARGET {

// Queries of a block at most: its tiles of keys are copied once for all of them.
constexpr i64 kBlockPanels = 256 / kPanel;
constexpr i64 kBlockRows = kBlockPanels * kPanel;

// A maximum before there is any, far above what products of keys that a query does not see are.
constexpr float kNoMaximum = -1e38f;

// Products, in units of ln 2, become weights 2^(s − m) with the running maximum m; m and the sums of weights move on. `factors` get what earlier sums of
// weights and values have to be multiplied by.
ELAPID_NOINLINE inline void running_softmax(float* products, Span keys, float* maxima, float* totals, float* factors) {
  for (i64 v = 0; v < kPanel; v += kLanes) {
    float* const begin = products + keys.first * kPanel + v;
    float* const end = products + (keys.last + 1) * kPanel;
    const vf before = load(maxima + v);
    vf m0 = before, m1 = before;
    for (const float* at = begin; at < end; at += 2 * kPanel) {
      m0 = max(load(at), m0);
      m1 = max(load(at + kPanel), m1);
    }
    const vf largest = max(m0, m1);
    vf s0{}, s1{};
    for (float* at = begin; at < end; at += 2 * kPanel) {
      const vf w0 = exp2(load(at) - largest), w1 = exp2(load(at + kPanel) - largest);
      store(at, w0);
      store(at + kPanel, w1);
      s0 += w0;
      s1 += w1;
    }
    const vf factor = exp2(before - largest);
    store(factors + v, factor);
    store(totals + v, load(totals + v) * factor + (s0 + s1));
    store(maxima + v, largest);
  }
}

struct ForwardScratch {
  float *keys, *values, *queries, *sums, *products, *maxima, *totals, *factors;

  ForwardScratch(float* scratch, i64 size) {
    Carver carver{scratch};
    keys = carver.take(kPage * kKeyStride);
    values = carver.take(kPage * kKeyStride);
    queries = carver.take(kBlockRows * size);
    sums = carver.take(kBlockRows * padded(size));
    products = carver.take(kPage * kPanel);
    maxima = carver.take(kBlockRows);
    totals = carver.take(kBlockRows);
    factors = carver.take(kPanel);
  }
};

// Rows [row, row + rows) of a head of keys, at most kBlockRows.
inline void attend_block(const Attention& a, i64 batch, i64 kv_head, i64 row, i64 rows, const ForwardScratch& to) {
  const Sequence<Attention> s{a, batch};
  const i64 width = padded(a.size), panels = ceil_div(rows, kPanel);
  Panel panel[kBlockPanels];
  Span all;
  for (i64 p = 0; p < panels; p++) {
    panel[p].set(s, row + p * kPanel);
    all.include(panel[p].any);
    pack_panel(s, a.q, a.qPitch, kv_head, row + p * kPanel, panel[p].count, a.scale * kLog2E, to.queries + p * kPanel * a.size, nullptr);
  }
  fill_zero(to.sums, panels * kPanel * width);
  for (i64 i = 0; i < panels * kPanel; i += kLanes) {
    store(to.maxima + i, splat(kNoMaximum));
    store(to.totals + i, vf{});
  }
  for (i64 tile = all.first / kPage; tile <= all.last / kPage; tile++) {
    const Span used = all.within(tile);
    pack_tile(s, a.k, a.kPitch, kv_head, tile, used, to.keys);
    pack_tile(s, a.v, a.vPitch, kv_head, tile, used, to.values);
    for (i64 p = 0; p < panels; p++) {
      const Span keys = panel[p].groups(tile);
      if (keys.empty()) continue;
      key_products(to.keys, keys.first, keys.last + 1, to.queries + p * kPanel * a.size, a.size, to.products);
      panel[p].hide(tile, keys, to.products);
      running_softmax(to.products, keys, to.maxima + p * kPanel, to.totals + p * kPanel, to.factors);
      sum_keys<Sum::kScale>(to.products, keys.first, keys.last + 1, to.values, width, to.sums + p * kPanel * width, to.factors);
    }
  }
  for (i64 v = 0; v < panels * kPanel; v += kLanes) {
    const vf total = load(to.totals + v);
    store(to.maxima + v, load(to.maxima + v) * kLn2 + log(total));
    store(to.totals + v, 1.0f / total);
  }
  for (i64 r = 0; r < rows; r++) {
    float* const y = a.y + s.query_row(kv_head, row + r) * a.size;
    const vf factor = splat(to.totals[r]);
    each_vector_of(a.size, [&](i64 i, i64 n) { store_first(y + i, load(to.sums + r * width + i) * factor, n); });
    if (a.logSums != nullptr) a.logSums[s.query_place(kv_head, row + r)] = to.maxima[r];
  }
}

inline void attend_many(const Attention& a, Pool& pool) {
  const i64 heads = a.batch * a.kvHeads, rows = a.length * (a.heads / a.kvHeads), panels = ceil_div(rows, kPanel);
  // Blocks are long, but there are some for each thread. No result depends on them.
  const i64 block = kPanel * min(kBlockPanels, ceil_div(panels, ceil_div(4 * pool.threads(), heads))), blocks = ceil_div(rows, block);
  pool.each(heads * blocks, [&](i64 task, int thread) {
    const i64 row = task % blocks * block, head = task / blocks;
    attend_block(a, head / a.kvHeads, head % a.kvHeads, row, min(block, rows - row), ForwardScratch(pool.scratch<float>(thread), a.size));
  });
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
