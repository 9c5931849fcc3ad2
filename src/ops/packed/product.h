// Products of a few rows with a panel of a packed weight: a line of the panel is decoded once for all of them, and every
// number of it is a vector of 16 outputs, so that nothing is ever summed across lanes.
#pragma once
#include "format.h"

namespace elapid {
namespace ELAPID_TARGET {

// Rows that share a decoded line: as many as registers hold the sums of, twice where a block has a scale.
constexpr int kPackedRows = kLanes == 16 ? 8 : kLanes == 8 ? 3 : 2;
// Bytes between a line and its prefetch: what memory delivers in the time it takes to answer.
constexpr i64 kPanelAhead = 2048;

// Separate sums for one row, so that additions do not wait for one another.
template <int M>
constexpr int kPanelWays = kLanes == 16 ? (M == 1 ? 4 : M == 2 ? 2 : 1) : (M == 1 && kLanes == 8 ? 2 : 1);

// Adds a block's products with rows of x, `pitch` apart, to `sums`.
template <class F, int M>
ELAPID_INLINE void add_block(const u8* block, const float* x, i64 pitch, Vector16 (&sums)[M]) {
  constexpr int W = kPanelWays<M>;
  Vector16 found[M][W] = {};
  const u8* line = block + kDataStart<F>;
  ELAPID_UNROLL
  for (int k = 0; k < kBlockDepth; k += F::kPerWord) {
    vi words[kParts];
    ELAPID_UNROLL
    for (int p = 0; p < kParts; p++) words[p] = load_words(line + k / F::kPerWord * 64 + p * 4 * kLanes);
    __builtin_prefetch(line + k / F::kPerWord * 64 + kPanelAhead);
    ELAPID_UNROLL
    for (int j = 0; j < F::kPerWord; j++) {
      ELAPID_UNROLL
      for (int p = 0; p < kParts; p++) {
        const vf weight = F::decode(words[p], j);
        ELAPID_UNROLL
        for (int m = 0; m < M; m++) found[m][j % W].part[p] += weight * splat(x[m * pitch + k + j]);
      }
    }
  }
  ELAPID_UNROLL
  for (int p = 0; p < kParts; p++) {
    vf scale;
    if constexpr (F::kScaled) scale = load_bf16(block + p * 2 * kLanes);
    ELAPID_UNROLL
    for (int m = 0; m < M; m++) {
      vf sum = found[m][0].part[p];
      if constexpr (W == 2) sum += found[m][1].part[p];
      if constexpr (W == 4) sum = (sum + found[m][1].part[p]) + (found[m][2].part[p] + found[m][3].part[p]);
      if constexpr (F::kScaled) sums[m].part[p] += sum * scale;
      else sums[m].part[p] += sum;
    }
  }
}

// sums[m] = Σ_k x[m, k]·panel[k]: `blocks` whole blocks, then one with `tail` [M, kBlockDepth], padded with zeros, if given.
template <class F, int M>
void panel_product(const u8* panel, i64 blocks, const float* x, i64 pitch, const float* tail, Vector16 (&sums)[M]) {
  ELAPID_UNROLL
  for (int m = 0; m < M; m++) sums[m] = Vector16{};
  for (i64 b = 0; b < blocks; b++) {
    add_block<F, M>(panel, x, pitch, sums);
    panel += F::kBlockBytes;
    x += kBlockDepth;
  }
  if (tail != nullptr) add_block<F, M>(panel, tail, kBlockDepth, sums);
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
void panel_rows(const u8* panel, i64 blocks, const PanelRows& rows, const float* bias, i64 columns) {
  Vector16 sums[M];
  panel_product<F, M>(panel, blocks, rows.x, rows.pitch, rows.tail, sums);
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
ELAPID_INLINE void panel_rows(int count, const u8* panel, i64 blocks, const PanelRows& rows, const float* bias, i64 columns) {
  if (count == M) return panel_rows<F, M>(panel, blocks, rows, bias, columns);
  if constexpr (M > 1) panel_rows<F, M - 1>(count, panel, blocks, rows, bias, columns);
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
