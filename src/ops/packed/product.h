// Products of a few rows with a panel of a packed weight: a line of the panel is decoded once for all of them, and every
// number of it is a vector of 16 outputs, so that nothing is ever summed across lanes.
#pragma once
#include "format.h"
#include "rounded-rows.h"

namespace elapid {
namespace ELAPID_TARGET {

// Rows that share a decoded line: as many as registers hold the sums of, twice where a block has a scale.
constexpr int kPackedRows = kLanes == 16 ? 8 : kLanes == 8 ? 3 : 2;
// Bytes between a line and its prefetch: what memory delivers in the time it takes to answer. Into the second-level cache: a
// prefetch into the first holds one of the few buffers that lines arrive in, and two threads then read a fifth less.
constexpr i64 kPanelAhead = i64(8) << 10;

// Separate sums for one row, so that additions do not wait for one another.
template <int M>
constexpr int kPanelWays = kLanes == 16 ? (M == 1 ? 4 : M == 2 ? 2 : 1) : (M == 1 && kLanes == 8 ? 2 : 1);

template <int W, class V>
ELAPID_INLINE V sum_of_ways(const V (&ways)[W][kParts], int p) {
  if constexpr (W == 4) return (ways[0][p] + ways[1][p]) + (ways[2][p] + ways[3][p]);
  else if constexpr (W == 2) return ways[0][p] + ways[1][p];
  else return ways[0][p];
}

ELAPID_INLINE void load_line(const u8* line, vi (&words)[kParts]) {
  ELAPID_UNROLL
  for (int p = 0; p < kParts; p++) words[p] = kept(load_words(line + p * 4 * kLanes));
  __builtin_prefetch(line + kPanelAhead, 0, 2);
}

// Rows of x for a panel of floats: `whole` units of it, and what is left after them, padded with zeros, if anything is.
struct FloatRows {
  const float* x;
  i64 pitch;
  i64 whole;
  const float* rest;
};

// Adds a unit's products with M rows to `sums`.
template <int M>
ELAPID_INLINE void add_unit(const u8* unit, const float* const (&x)[M], Vector16 (&sums)[M]) {
  using F = Bf16Format;
  constexpr int W = kPanelWays<M>;
  vf found[M][W][kParts] = {};
  ELAPID_UNROLL
  for (int k = 0; k < F::kUnitDepth; k += F::kPerWord) {
    vi words[kParts];
    load_line(unit + k / F::kPerWord * 64, words);
    ELAPID_UNROLL
    for (int j = 0; j < F::kPerWord; j++) {
      ELAPID_UNROLL
      for (int p = 0; p < kParts; p++) {
        const vf weight = F::decode(words[p], j);
        ELAPID_UNROLL
        for (int m = 0; m < M; m++) found[m][j % W][p] += weight * splat(x[m][k + j]);
      }
    }
  }
  ELAPID_UNROLL
  for (int m = 0; m < M; m++) {
    ELAPID_UNROLL
    for (int p = 0; p < kParts; p++) sums[m].part[p] += sum_of_ways<W>(found[m], p);
  }
}

// sums[m] = Σ_k x[m, k]·panel[k].
template <class F, int M>
ELAPID_INLINE void panel_product(const u8* panel, const FloatRows& rows, i64 first, Vector16 (&sums)[M]) {
  const float* x[M];
  ELAPID_UNROLL
  for (int m = 0; m < M; m++) x[m] = rows.x + (first + m) * rows.pitch;
  for (i64 u = 0; u < rows.whole; u++, panel += F::kUnitBytes) {
    add_unit<M>(panel, x, sums);
    ELAPID_UNROLL
    for (int m = 0; m < M; m++) x[m] += F::kUnitDepth;
  }
  if (rows.rest == nullptr) return;
  ELAPID_UNROLL
  for (int m = 0; m < M; m++) x[m] = rows.rest + (first + m) * F::kUnitDepth;
  add_unit<M>(panel, x, sums);
}

// Adds the products of one line with M rows to `found`, pair by pair.
template <class F, int M, int J = 0>
ELAPID_INLINE void add_pairs(const vi (&words)[kParts], const i32* const (&x)[M], vi (&found)[M][kPanelWays<M>][kParts]) {
  ELAPID_UNROLL
  for (int p = 0; p < kParts; p++) {
    const vi weights = F::template pair<J>(words[p]);
    ELAPID_UNROLL
    for (int m = 0; m < M; m++) {
      vi& sum = found[m][J % kPanelWays<M>][p];
      // Kept, or a compiler collects all products in memory, to add them up as a tree.
      sum = kept(sum + dot_pairs(weights, splat(x[m][J])));
    }
  }
  if constexpr (2 * (J + 1) < F::kPerWord) add_pairs<F, M, J + 1>(words, x, found);
}

// The same for weights in integers and rows rounded to 16 bits: sums of a block are whole numbers below 2³¹, and exact.
template <class F, int M>
ELAPID_INLINE void panel_product(const u8* panel, const RoundedRows& rows, i64 first, Vector16 (&sums)[M]) {
  constexpr int W = kPanelWays<M>;
  const i32* x[M];
  const float* scales[M];
  ELAPID_UNROLL
  for (int m = 0; m < M; m++) {
    x[m] = rows.pairs + (first + m) * rows.pitch;
    scales[m] = rows.scales + (first + m) * rows.scale_pitch;
  }
  for (i64 block = 0; block < rows.blocks; block++) {
    const u8* lines = panel + kLines<F> + block % 2 * (kBlockDepth / F::kPerWord * 64);
    vi found[M][W][kParts] = {};
    ELAPID_UNROLL
    for (int k = 0; k < kBlockDepth; k += F::kPerWord) {
      vi words[kParts];
      load_line(lines + k / F::kPerWord * 64, words);
      add_pairs<F, M>(words, x, found);
      ELAPID_UNROLL
      for (int m = 0; m < M; m++) x[m] += F::kPerWord / 2;
    }
    ELAPID_UNROLL
    for (int p = 0; p < kParts; p++) {
      const vf scale = load_scales(panel + block % 2 * 2 * kPanelRows + p * 2 * kLanes);
      ELAPID_UNROLL
      for (int m = 0; m < M; m++) sums[m].part[p] += __builtin_convertvector(sum_of_ways<W>(found[m], p), vf) * (scale * splat(scales[m][block]));
    }
    if (block % 2 == 1) panel += F::kUnitBytes;
  }
}

// Where sums go: c[m, 0 … columns) of rows `pitch` apart, with `bias` [columns] unless it is null.
struct PanelResult {
  float* c;
  i64 pitch;
  const float* bias;
  i64 columns;
};

// M rows, from the first on, times a panel.
template <class F, int M, class Rows>
void panel_rows(const u8* panel, const Rows& rows, i64 first, const PanelResult& to) {
  Vector16 sums[M] = {};
  panel_product<F, M>(panel, rows, first, sums);
  for (int m = 0; m < M; m++) {
    for (int p = 0; p < kParts && p * kLanes < to.columns; p++) {
      const i64 n = to.columns - p * kLanes;
      vf sum = sums[m].part[p];
      if (to.bias != nullptr) sum += load_first(to.bias + p * kLanes, n);
      store_first(to.c + (first + m) * to.pitch + p * kLanes, sum, n);
    }
  }
}

template <class F, class Rows, int M = kPackedRows>
ELAPID_INLINE void panel_rows(int count, const u8* panel, const Rows& rows, i64 first, const PanelResult& to) {
  if (count == M) return panel_rows<F, M>(panel, rows, first, to);
  if constexpr (M > 1) panel_rows<F, Rows, M - 1>(count, panel, rows, first, to);
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
