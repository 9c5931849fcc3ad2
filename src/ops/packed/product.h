// Products of a few rows with a panel of a packed weight: a line of the panel is decoded once for all of them, and every
// number of it is a vector of 16 outputs, so that nothing is ever summed across lanes.
#pragma once
#include "format.h"

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

// Adds a unit's products with rows of x to `sums`, and moves the rows on.
template <class F, int M>
ELAPID_INLINE void add_unit(const u8* unit, const float* (&x)[M], Vector16 (&sums)[M]) {
  constexpr int W = kPanelWays<M>;
  ELAPID_UNROLL
  for (int block = 0; block < F::kUnitDepth; block += kBlockDepth) {
    Vector16 found[M][W] = {};
    const u8* lines = unit + kLines<F> + block / F::kPerWord * 64;
    ELAPID_UNROLL
    for (int k = 0; k < kBlockDepth; k += F::kPerWord) {
      const u8* line = lines + k / F::kPerWord * 64;
      vi words[kParts];
      ELAPID_UNROLL
      for (int p = 0; p < kParts; p++) words[p] = kept(load_words(line + p * 4 * kLanes));
      __builtin_prefetch(line + kPanelAhead, 0, 2);
      ELAPID_UNROLL
      for (int j = 0; j < F::kPerWord; j++) {
        ELAPID_UNROLL
        for (int p = 0; p < kParts; p++) {
          const vf weight = F::decode(words[p], j);
          ELAPID_UNROLL
          for (int m = 0; m < M; m++) found[m][j % W].part[p] += weight * splat(x[m][k + j]);
        }
      }
    }
    ELAPID_UNROLL
    for (int p = 0; p < kParts; p++) {
      vf scale;
      if constexpr (F::kScaled) scale = load_scales(unit + block + p * 2 * kLanes);
      ELAPID_UNROLL
      for (int m = 0; m < M; m++) {
        vf sum = found[m][0].part[p];
        if constexpr (W == 2) sum += found[m][1].part[p];
        if constexpr (W == 4) sum = (sum + found[m][1].part[p]) + (found[m][2].part[p] + found[m][3].part[p]);
        if constexpr (F::kScaled) sums[m].part[p] += sum * scale;
        else sums[m].part[p] += sum;
      }
    }
    ELAPID_UNROLL
    for (int m = 0; m < M; m++) x[m] += kBlockDepth;
  }
}

// sums[m] = Σ_k x[m, k]·panel[k]: `units` whole units, then one with `tail` [M, kUnitDepth], padded with zeros, if given.
template <class F, int M>
ELAPID_INLINE void panel_product(const u8* panel, i64 units, const float* x, i64 pitch, const float* tail, Vector16 (&sums)[M]) {
  const float* rows[M];
  ELAPID_UNROLL
  for (int m = 0; m < M; m++) {
    sums[m] = Vector16{};
    rows[m] = x + m * pitch;
  }
  for (i64 u = 0; u < units; u++, panel += F::kUnitBytes) add_unit<F, M>(panel, rows, sums);
  if (tail == nullptr) return;
  ELAPID_UNROLL
  for (int m = 0; m < M; m++) rows[m] = tail + m * F::kUnitDepth;
  add_unit<F, M>(panel, rows, sums);
}

struct PanelRows {
  const float* x;
  i64 pitch;
  const float* tail;
  float* c;
  i64 c_pitch;
};

// c[m, 0 … columns) = x[m]·panel + bias for M rows.
template <class F, int M>
void panel_rows(const u8* panel, i64 units, const PanelRows& rows, const float* bias, i64 columns) {
  Vector16 sums[M];
  panel_product<F, M>(panel, units, rows.x, rows.pitch, rows.tail, sums);
  for (int m = 0; m < M; m++) {
    for (int p = 0; p < kParts && p * kLanes < columns; p++) {
      const i64 n = columns - p * kLanes;
      vf sum = sums[m].part[p];
      if (bias != nullptr) sum += load_first(bias + p * kLanes, n);
      store_first(rows.c + m * rows.c_pitch + p * kLanes, sum, n);
    }
  }
}

template <class F, int M = kPackedRows>
ELAPID_INLINE void panel_rows(int count, const u8* panel, i64 units, const PanelRows& rows, const float* bias, i64 columns) {
  if (count == M) return panel_rows<F, M>(panel, units, rows, bias, columns);
  if constexpr (M > 1) panel_rows<F, M - 1>(count, panel, units, rows, bias, columns);
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
