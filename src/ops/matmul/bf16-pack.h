// Packing for the bfloat16 units: rounds a block of a factor and lays it out by pairs of depth. For units of AVX-512 machines.
#pragma once
#include <immintrin.h>

#include "packed-bf16.h"

namespace elapid {
namespace ELAPID_TARGET {

// Depth is packed in steps of 32: 16 pairs, 64 bytes.
constexpr i64 kStep = 32;

// One factor, seen as lines (rows of A, columns of B) that run along the depth.
struct Lines {
  const float* x;
  i64 ld;
  bool along_depth;  // lines are contiguous and ld apart; else line l at depth k is x[k·ld + l]
  i64 count, depth;
};

ELAPID_INLINE __mmask16 first_lanes(i64 n) { return n >= 16 ? __mmask16(0xffff) : n <= 0 ? __mmask16(0) : __mmask16((1u << n) - 1); }

// 32 numbers from x on, of which the first n exist, rounded; the others are zero.
ELAPID_INLINE __m512i round_row(const float* x, i64 n) {
  if (n >= kStep) return (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + 16), _mm512_loadu_ps(x));
  const __m512 low = _mm512_maskz_loadu_ps(first_lanes(n), x);
  const __m512 high = n <= 16 ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(first_lanes(n - 16), x + 16);
  return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

// Pairs of 16 lines at depths k and k + 1: x[k·ld + l], x[(k + 1)·ld + l] in turn. The second may not exist.
ELAPID_INLINE __m512i round_pair(const float* x, i64 ld, __mmask16 lines, bool both) {
  const __m512i in_turn = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4,
                                           19, 3, 18, 2, 17, 1, 16, 0);
  const __m512 first = _mm512_maskz_loadu_ps(lines, x);
  const __m512 second = both ? _mm512_maskz_loadu_ps(lines, x + ld) : _mm512_setzero_ps();
  return _mm512_permutexvar_epi16(in_turn, (__m512i)_mm512_cvtne2ps_pbh(second, first));
}

// 16 lines by 16 pairs, transposed.
ELAPID_INLINE void transpose_pairs(__m512i (&square)[16]) {
  vf rows[16];
  ELAPID_UNROLL
  for (int i = 0; i < 16; i++) rows[i] = (vf)square[i];
  transpose(rows);
  ELAPID_UNROLL
  for (int i = 0; i < 16; i++) square[i] = (__m512i)rows[i];
}

// The square of 16 lines from `line` on and one step of depth from k on, with whole = false where some of it does not exist.
// One vector a line, or with along_depth = false one a pair.
template <bool AlongDepth>
ELAPID_INLINE void load_square(const Lines& from, i64 line, i64 lines, i64 k, __m512i (&square)[16]) {
  const i64 n = from.depth - k;
  if constexpr (AlongDepth) {
    const float* x = from.x + line * from.ld + k;
    if (lines >= 16) {
      ELAPID_UNROLL
      for (int i = 0; i < 16; i++) square[i] = round_row(x + i * from.ld, n);
    } else {
      for (int i = 0; i < 16; i++) square[i] = i < lines ? round_row(x + i * from.ld, n) : _mm512_setzero_si512();
    }
  } else {
    const __mmask16 mask = first_lanes(lines);
    const float* x = from.x + k * from.ld + line;
    if (n >= kStep) {
      ELAPID_UNROLL
      for (int i = 0; i < 16; i++) square[i] = round_pair(x + 2 * i * from.ld, from.ld, mask, true);
    } else {
      for (int i = 0; i < 16; i++) {
        square[i] = 2 * i < n ? round_pair(x + 2 * i * from.ld, from.ld, mask, 2 * i + 1 < n) : _mm512_setzero_si512();
      }
    }
  }
}

// Rows of A as panels of R rows, `steps` steps of depth from k on: to[panel][step][R][32].
template <int R>
void pack_rows(const Lines& from, i64 line, i64 lines, i64 k, i64 steps, uint16_t* to) {
  const auto place = [&](i64 l, i64 step) { return to + ((l / R * steps + step) * R + l % R) * kStep; };
  const i64 padded = ceil_div(lines, R) * R;
  if (from.along_depth) {
    for (i64 l = 0; l < padded; l++) {
      const float* x = from.x + (line + l) * from.ld + k;
      uint16_t* row = place(l, 0);
      for (i64 s = 0; s < steps; s++) {
        const __m512i v = l < lines ? round_row(x + s * kStep, from.depth - k - s * kStep) : _mm512_setzero_si512();
        _mm512_store_si512(row + s * (R * kStep), v);
      }
    }
    return;
  }
  for (i64 s = 0; s < steps; s++) {
    for (i64 l = 0; l < padded; l += 16) {
      __m512i square[16];
      load_square<false>(from, line + l, lines - l, k + s * kStep, square);
      transpose_pairs(square);
      for (i64 i = 0; i < 16 && l + i < padded; i++) _mm512_store_si512(place(l + i, s), square[i]);
    }
  }
}

// Columns of B as panels of 16, in the layout of packed-bf16.h: to[panel][step][16 pairs][16][2].
inline void pack_columns(const Lines& from, i64 line, i64 lines, i64 k, i64 steps, uint16_t* to) {
  constexpr i64 tile = 16 * kStep;
  const i64 panels = ceil_div(lines, 16);
  __m512i square[16];
  if (from.along_depth) {
    for (i64 p = 0; p < panels; p++) {
      for (i64 s = 0; s < steps; s++) {
        load_square<true>(from, line + 16 * p, lines - 16 * p, k + s * kStep, square);
        transpose_pairs(square);
        ELAPID_UNROLL
        for (int i = 0; i < 16; i++) _mm512_store_si512(to + (p * steps + s) * tile + i * kStep, square[i]);
      }
    }
    return;
  }
  for (i64 s = 0; s < steps; s++) {
    for (i64 p = 0; p < panels; p++) {
      load_square<false>(from, line + 16 * p, lines - 16 * p, k + s * kStep, square);
      ELAPID_UNROLL
      for (int i = 0; i < 16; i++) _mm512_store_si512(to + (p * steps + s) * tile + i * kStep, square[i]);
    }
  }
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
