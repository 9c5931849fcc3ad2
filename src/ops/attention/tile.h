// Products of tiles: kPage keys by a panel of kPanel queries. Weights lie [key][query], so that softmax goes along lanes and every
// product finds its operands as they lie: the rows of the left one are broadcast, those of the right one are vectors.
#pragma once
#include "../../backend/cpu/native/simd.h"

namespace elapid {
namespace ELAPID_TARGET {

// Positions of a page, and keys of a tile.
constexpr i64 kPage = 64;
// Rows and vectors of the sums that are held in registers; rows divide kPage and kPanel.
#if ELAPID_LANES == 16 || defined(__aarch64__)
constexpr int kSumRows = 8, kSumVectors = 2;
#elif ELAPID_LANES == 8
constexpr int kSumRows = 4, kSumVectors = 3;
#else
constexpr int kSumRows = 4, kSumVectors = 2;
#endif
constexpr i64 kPanel = kSumVectors * kLanes;
static_assert(kPage % kSumRows == 0 && kPanel % kSumRows == 0);

// Numbers of a head at most.
constexpr i64 kMostSize = 256;
// Floats between rows of a tile of keys or values: not a power of two, so that they lie in different sets of a cache.
constexpr i64 kKeyStride = kMostSize + 16;

// What becomes of sums: c = sums, c += sums, or c = c·factor + sums with a factor for each row.
enum class Sum { kSet, kAdd, kScale };

// Σ_k a_i[k]·b[k] for kSumRows rows of a and V vectors of b. Rows of a lie kRow floats apart, or one apart and steps of k `step` floats apart where
// kRow is 0. Every element is summed in order of k.
template <int V, i64 kRow, Sum kSum>
ELAPID_INLINE void sum_tile(const float* a, i64 step, const float* b, i64 b_step, i64 depth, float* c, i64 c_step, const float* factors) {
  vf sums[kSumRows][V] = {};
  for (i64 k = 0; k < depth; k++) {
    vf row[V];
    ELAPID_UNROLL
    for (int j = 0; j < V; j++) row[j] = load(b + j * kLanes);
    ELAPID_UNROLL
    for (int i = 0; i < kSumRows; i++) {
      const vf element = splat(a[i * (kRow == 0 ? 1 : kRow)]);
      ELAPID_UNROLL
      for (int j = 0; j < V; j++) sums[i][j] += element * row[j];
    }
    a += kRow == 0 ? step : 1;
    b += b_step;
  }
  ELAPID_UNROLL
  for (int i = 0; i < kSumRows; i++) {
    ELAPID_UNROLL
    for (int j = 0; j < V; j++) {
      float* const to = c + i * c_step + j * kLanes;
      if constexpr (kSum == Sum::kSet) store(to, sums[i][j]);
      else if constexpr (kSum == Sum::kAdd) store(to, load(to) + sums[i][j]);
      else store(to, load(to) * splat(factors[i]) + sums[i][j]);
    }
  }
}

// Calls f<V>(first) for groups of V vectors that cover `vectors`: no group of one where two of two will do.
template <class F>
ELAPID_INLINE void each_vectors(i64 vectors, F f) {
  for (i64 first = 0; first < vectors;) {
    const i64 left = vectors - first;
    const i64 take = left == kSumVectors + 1 ? (kSumVectors + 1) / 2 : min(left, i64(kSumVectors));
    if (take == 1) f.template operator()<1>(first);
    else if (take == 2) f.template operator()<2>(first);
    else f.template operator()<kSumVectors>(first);
    first += take;
  }
}

// to[j][query] = keys[j]·queries[query] for keys j in [begin, end), multiples of kSumRows. keys [kPage][kKeyStride], queries [size][kPanel].
ELAPID_NOINLINE inline void key_products(const float* keys, i64 begin, i64 end, const float* queries, i64 size, float* to) {
  for (i64 j = begin; j < end; j += kSumRows)
    sum_tile<kSumVectors, kKeyStride, Sum::kSet>(keys + j * kKeyStride, 0, queries, kPanel, size, to + j * kPanel, kPanel, nullptr);
}

// to[query] (=, += …) Σ_j weights[j][query]·rows[j] over keys j in [begin, end). rows [kPage][kKeyStride], to [kPanel][width].
template <Sum kSum>
ELAPID_NOINLINE void sum_keys(const float* weights, i64 begin, i64 end, const float* rows, i64 width, float* to, const float* factors) {
  each_vectors(width / kLanes, [&]<int V>(i64 first) {
    for (i64 query = 0; query < kPanel; query += kSumRows) {
      sum_tile<V, 0, kSum>(weights + begin * kPanel + query, kPanel, rows + begin * kKeyStride + first * kLanes, kKeyStride, end - begin,
                           to + query * width + first * kLanes, width, factors + query);
    }
  });
}

// to[j] += Σ_query weights[j][query]·rows[query] for keys j in [begin, end). rows [kPanel][width], to [kPage][width].
ELAPID_NOINLINE inline void sum_queries(const float* weights, i64 begin, i64 end, const float* rows, i64 width, float* to) {
  each_vectors(width / kLanes, [&]<int V>(i64 first) {
    for (i64 j = begin; j < end; j += kSumRows)
      sum_tile<V, kPanel, Sum::kAdd>(weights + j * kPanel, 0, rows + first * kLanes, width, kPanel, to + j * width + first * kLanes, width, nullptr);
  });
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
