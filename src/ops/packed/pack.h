// Packing weights: rounding them, choosing scales and codes, and laying them out. Every step is exact or a single rounding, so
// that all instruction sets give the same bytes.
#pragma once
#include "rounded-rows.h"

namespace elapid {
namespace ELAPID_TARGET {

// A block of one panel, transposed: weights[k][row].
using BlockWeights = float[kBlockDepth][kPanelRows];

struct BlockMaximum {
  vf value;      // the largest weight by magnitude, the first of such, with its sign
  vi zero;       // all so small that the block is zero
  vi broken;     // a weight is infinite or not a number
};

ELAPID_INLINE BlockMaximum block_maximum(const BlockWeights& weights, int first) {
  vi largest{}, signed_largest{};
  for (int k = 0; k < kBlockDepth; k++) {
    const vi bits = as_int(load(weights[k] + first)), magnitude = bits & 0x7fffffff;
    const vi larger = magnitude > largest;
    largest = larger ? magnitude : largest;
    signed_largest = larger ? bits : signed_largest;
  }
  return {as_float(signed_largest), as_float(largest) < splat(0x1p-90f), largest >= 0x7f800000};
}

// Words of four bytes from codes, one vector for each number of a word, the first in the lowest bits.
template <class F, class Code>
ELAPID_INLINE void store_codes(const BlockWeights& weights, int first, u8* to, Code code) {
  constexpr int bits = 32 / F::kPerWord;
  for (int k = 0; k < kBlockDepth; k += F::kPerWord) {
    vi words{};
    for (int j = 0; j < F::kPerWord; j++) words |= (code(load(weights[k + j] + first)) & ((1 << bits) - 1)) << (bits * j);
    store_words(to + k / F::kPerWord * 64, words);
  }
}

// Stores the scale and gives what weights are divided by: one where the block has no usable scale.
ELAPID_INLINE vf store_scale(vf scale, const BlockMaximum& maximum, u8* to) {
  const vi bits = maximum.broken ? splat(i32(0x7fc0)) : maximum.zero ? vi{} : upper_half(scale);
  store_scales(to, bits);
  return maximum.broken | maximum.zero ? splat(1.0f) : as_float(bits << 16);
}

ELAPID_INLINE void pack_block(Bf16Format, const BlockWeights& weights, int first, u8*, u8* lines) {
  const auto code = [](vf w) { return upper_half(w); };
  for (int k = 0; k < kBlockDepth; k += 2) {
    store_words(lines + k * 32 + first * 4, code(load(weights[k] + first)) | (code(load(weights[k + 1] + first)) << 16));
  }
}

ELAPID_INLINE void pack_block(Int8Format, const BlockWeights& weights, int first, u8* scales, u8* lines) {
  const BlockMaximum maximum = block_maximum(weights, first);
  const vf step = store_scale(abs(maximum.value) * (1.0f / 127.0f), maximum, scales + 2 * first);
  const vi none = maximum.zero | maximum.broken;
  store_codes<Int8Format>(weights, first, lines + 4 * first, [&](vf w) {
    const vi code = as_int(w / step + kRounder);
    return none ? vi{} : code;
  });
}

// What int4's codes stand for under each of the scales tried, in 2048ths of the block's largest weight, and the midpoints.
struct Int4Search {
  float lowest[16], step[16][15], middle[16][15];
};

constexpr Int4Search make_int4_search() {
  Int4Search search{};
  for (int i = 0; i < 16; i++) {
    int levels[16] = {};
    for (int c = 0; c < 16; c++) {
      // value·(26 + i)·2048 / 57344, to nearest, ties to even
      const int scaled = int4_value(c - 8) * (26 + i), magnitude = scaled < 0 ? -scaled : scaled;
      const int down = magnitude / 28, rest = magnitude % 28;
      const int rounded = down + (rest > 14 || (rest == 14 && down % 2 == 1) ? 1 : 0);
      levels[c] = scaled < 0 ? -rounded : rounded;
    }
    search.lowest[i] = float(levels[0]);
    for (int c = 0; c < 15; c++) {
      search.step[i][c] = float(levels[c + 1] - levels[c]);
      search.middle[i][c] = 0.5f * float(levels[c + 1] + levels[c]);
    }
  }
  return search;
}

inline constexpr Int4Search kInt4Search = make_int4_search();

// The factor on the largest weight that gives the scale with the least squared error. All sums are whole numbers below 2²⁴.
inline __attribute__((noinline)) vf int4_scale(const vf (&whole)[kBlockDepth]) {
  vf best = splat(__builtin_inff()), scale{};
  for (int i = 0; i < 16; i++) {
    vf error{};
    for (int k = 0; k < kBlockDepth; k++) {
      const vf value = whole[k];
      vf rest = value - kInt4Search.lowest[i];
      ELAPID_UNROLL
      for (int c = 0; c < 15; c++) rest -= value > splat(kInt4Search.middle[i][c]) ? splat(kInt4Search.step[i][c]) : vf{};
      error += rest * rest;
    }
    const vi better = error < best;
    best = better ? error : best;
    scale = better ? splat(float(26 + i) / 57344.0f) : scale;
  }
  return scale;
}

ELAPID_INLINE void pack_block(Int4Format, const BlockWeights& weights, int first, u8* scales, u8* lines) {
  const BlockMaximum maximum = block_maximum(weights, first);
  const vi none = maximum.zero | maximum.broken;
  const vf largest = none ? splat(1.0f) : maximum.value;
  vf whole[kBlockDepth];
  for (int k = 0; k < kBlockDepth; k++) {
    const vf fraction = load(weights[k] + first) / -largest;
    whole[k] = none ? vf{} : (fraction * 2048.0f + kRounder) - kRounder;
  }
  const vf step = store_scale(-largest * int4_scale(whole), maximum, scales + 2 * first);
  store_codes<Int4Format>(weights, first, lines + 4 * first, [&](vf w) {
    const vf value = w / step;
    vi code = splat(i32(-8));
    ELAPID_UNROLL
    for (int c = -8; c < 7; c++) code -= value > splat(0.5f * float(int4_value(c) + int4_value(c + 1)));  // a true lane is −1
    return none ? vi{} : code;
  });
}

// Packs a panel: rows [0, rows) of 16, `pitch` apart; others are zero.
template <class F>
void pack_panel(const float* weight, i64 rows, i64 depth, i64 pitch, u8* panel) {
  for (i64 k = 0; k < depth; k += F::kUnitDepth) {
    for (i64 b = 0; b < F::kUnitDepth; b += kBlockDepth) {
      BlockWeights weights = {};
      const i64 count = min(kBlockDepth, depth - (k + b));
      for (i64 row = 0; row < rows; row++)
        for (i64 i = 0; i < count; i++) weights[i][row] = weight[row * pitch + k + b + i];
      u8 *scales = panel + b, *lines = panel + kLines<F> + b / F::kPerWord * 64;
      for (int first = 0; first < kPanelRows; first += kLanes) pack_block(F{}, weights, first, scales, lines);
    }
    panel += F::kUnitBytes;
  }
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
