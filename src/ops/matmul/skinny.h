// Products with few rows, as in decoding: c = x·Wᵀ reads W once, and nothing else of any size, so it streams W as it lies.
#pragma once
#include "few-rows.h"
#include "pack.h"

namespace elapid {
namespace ELAPID_TARGET {

// Rows of W read side by side: independent sums hide the latency of the additions, until registers run out.
template <int M>
constexpr int kStreams = M <= 2 ? 4 : M <= 4 && kLanes == 16 ? 4 : M <= 4 ? 2 : kLanes == 16 ? 2 : 1;

// Floats between a row of W and its prefetch, at least; into the second-level cache, as in ops/packed/product.h.
constexpr i64 kStreamAhead = 6144;

// found[m][l], lane by lane: the products of row m of a with line `line + l` of w, for kStreams lines.
template <int M>
ELAPID_INLINE void skinny_lines(const float* a, i64 lda, const float* const* w, i64 depth, i64 ahead, vf (*found)[kLanes]) {
  constexpr int S = kStreams<M>;
  vf sums[M][S] = {};
  i64 k = 0;
  for (; k + kLanes <= depth; k += kLanes) {
    vf lines[S];
    ELAPID_UNROLL
    for (int s = 0; s < S; s++) {
      lines[s] = load(w[s] + k);
      __builtin_prefetch(w[s] + k + ahead, 0, 2);
    }
    ELAPID_UNROLL
    for (int m = 0; m < M; m++) {
      const vf x = load(a + m * lda + k);
      ELAPID_UNROLL
      for (int s = 0; s < S; s++) sums[m][s] += x * lines[s];
    }
  }
  if (k < depth) {
    vf lines[S];
    ELAPID_UNROLL
    for (int s = 0; s < S; s++) lines[s] = load_rest(w[s] + k, depth - k);
    ELAPID_UNROLL
    for (int m = 0; m < M; m++) {
      const vf x = load_rest(a + m * lda + k, depth - k);
      ELAPID_UNROLL
      for (int s = 0; s < S; s++) sums[m][s] += x * lines[s];
    }
  }
  ELAPID_UNROLL
  for (int m = 0; m < M; m++) {
    ELAPID_UNROLL
    for (int s = 0; s < S; s++) found[m][s] = sums[m][s];
  }
}

// c[m, n] (+)= Σ_k a[m, k]·w[n, k] + bias[n] for n in [begin, end), kLanes columns of c at a time.
template <int M>
void skinny_block(const Gemm& g, const float* a, const float* w, float* c, i64 begin, i64 end) {
  constexpr int S = kStreams<M>;
  const i64 group = max(S * g.ldb, i64(1)), ahead = ceil_div(kStreamAhead, group) * group;
  for (i64 n = begin; n < end; n += kLanes) {
    const i64 lines = min(end - n, i64(kLanes));
    vf found[M][kLanes];
    for (int first = 0; first < kLanes; first += S) {
      // Past the last line the last one is read again, and its sums are dropped.
      const float* streams[S];
      ELAPID_UNROLL
      for (int s = 0; s < S; s++) streams[s] = w + (n + min(i64(first + s), lines - 1)) * g.ldb;
      if (first < lines) {
        skinny_lines<M>(a, g.lda, streams, g.k, ahead, reinterpret_cast<vf(*)[kLanes]>(&found[0][first]));
      } else {
        for (int m = 0; m < M; m++)
          for (int s = 0; s < S; s++) found[m][first + s] = vf{};
      }
    }
    for (int m = 0; m < M; m++) {
      vf sum = sums(found[m]);
      if (g.bias != nullptr) sum += load_first(g.bias + n, lines);
      if (g.accumulate) sum += load_first(c + m * g.ldc + n, lines);
      store_first(c + m * g.ldc + n, sum, lines);
    }
  }
}

using SkinnyBlock = void (*)(const Gemm&, const float*, const float*, float*, i64, i64);
inline constexpr SkinnyBlock kSkinnyBlocks[kSkinnyRows] = {skinny_block<1>, skinny_block<2>, skinny_block<3>, skinny_block<4>,
                                                           skinny_block<5>, skinny_block<6>, skinny_block<7>, skinny_block<8>};

}  // namespace ELAPID_TARGET
}  // namespace elapid
