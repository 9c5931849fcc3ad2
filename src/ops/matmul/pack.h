// Packing: copies a block of an operand into panels that the tile kernel reads front to back. It absorbs transposes and row
// pitches, and keeps what is used again and again close together.
#pragma once
#include "packed-bf16.h"
#include "tile.h"

namespace elapid {
namespace ELAPID_TARGET {

// Rows between a copy and its prefetch, where lines lie across rows.
constexpr i64 kRowsAhead = 8;

// One operand, seen as lines (rows of A, columns of B) that run along the depth.
struct Operand {
  const float* x;
  i64 ld;
  bool alongDepth;  // lines are contiguous and ld apart; else line l at depth k is x[k·ld + l]
  i64 lines;
  bool rounded = false;              // to bfloat16 while it is packed
  const uint16_t* packed = nullptr;  // columns in the layout of packed-bf16.h instead of x; ld is then their depth
};

typedef u32 vu __attribute__((vector_size(ELAPID_LANES * 4)));

// The nearest bfloat16s, ties to even; NaN stays NaN.
ELAPID_INLINE vf round_to_bf16(vf x) {
  vu bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  const vu nearest = (bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u;
  const vu rounded = x == x ? nearest : (bits & 0xffff0000u) | 0x400000u;
  vf result;
  __builtin_memcpy(&result, &rounded, sizeof result);
  return result;
}

// load_first out of line: it is a long sequence, for the ends of lines only.
inline __attribute__((noinline)) vf load_rest(const float* p, i64 n) { return load_first(p, n); }

// The lines of `count` vectors of kLanes elements, transposed: to[d·W + l] = x[l·ld + d] for l < W.
template <int W, int Count>
ELAPID_INLINE void pack_transposed(const float* x, i64 ld, i64 lines, i64 depth, float* to) {
  for (i64 d = 0; d < depth; d += kLanes) {
    const i64 n = depth - d;
    vf square[kLanes];
    if (lines >= Count && n >= kLanes) {
      ELAPID_UNROLL
      for (int l = 0; l < kLanes; l++) {
        square[l] = l < Count ? load(x + l * ld + d) : vf{};
        // The next panel's lines are new streams, which the processor finds too late by itself.
        if (l < Count) __builtin_prefetch(x + (l + W) * ld + d);
      }
      transpose(square);
      ELAPID_UNROLL
      for (int i = 0; i < kLanes; i++) __builtin_memcpy(to + (d + i) * W, &square[i], Count * sizeof(float));
    } else {
      for (int l = 0; l < kLanes; l++) square[l] = l < lines ? load_rest(x + l * ld + d, n) : vf{};
      transpose(square);
      for (int i = 0; i < min(n, i64(kLanes)); i++) __builtin_memcpy(to + (d + i) * W, &square[i], Count * sizeof(float));
    }
  }
}

template <int W, int First = 0>
ELAPID_INLINE void pack_groups(const float* x, i64 ld, i64 lines, i64 depth, float* to) {
  constexpr int count = W - First < kLanes ? W - First : kLanes;
  pack_transposed<W, count>(x + First * ld, ld, lines - First, depth, to + First);
  if constexpr (First + kLanes < W) pack_groups<W, First + kLanes>(x, ld, lines, depth, to);
}

// Packs `lines` lines from `line` on, at depths [k, k + depth), as panels of W lines, depth·W floats each:
// panels[p][d·W + l]. What a panel has beyond the last line is zero.
template <int W>
void pack_plain(const Operand& from, i64 line, i64 lines, i64 k, i64 depth, float* panels) {
  if (from.alongDepth) {
    for (i64 l = 0; l < lines; l += W) pack_groups<W>(from.x + (line + l) * from.ld + k, from.ld, lines - l, depth, panels + l * depth);
    return;
  }
  // Rows are read along their length, so that cache lines and pages are used whole.
  const i64 whole = lines - lines % W;
  for (i64 d = 0; d < depth; d++) {
    const float* x = from.x + (k + d) * from.ld + line;
    for (i64 l = 0; l < whole; l += W) {
      ELAPID_UNROLL
      for (int i = 0; i < W; i += 16) __builtin_prefetch(x + l + i + kRowsAhead * from.ld);
      __builtin_memcpy(panels + l * depth + d * W, x + l, W * sizeof(float));
    }
    if (whole == lines) continue;
    float* to = panels + whole * depth + d * W;
    for (int l = 0; l < W; l++) to[l] = whole + l < lines ? x[whole + l] : 0.0f;
  }
}

// The same for columns packed in bfloat16. `line` is a multiple of W, so that no vector crosses a group of 16.
template <int W>
void unpack_bf16(const Operand& from, i64 line, i64 lines, i64 k, i64 depth, float* panels) {
  const i64 end = ceil_div(from.lines, kPackedColumns) * kPackedColumns;
  for (i64 l = 0; l < lines; l += W) {
    for (int i = 0; i < W; i += kLanes) {
      const i64 column = line + l + i;
      float* to = panels + l * depth + i;
      if (column >= end) {
        for (i64 d = 0; d < depth; d++) store(to + d * W, vf{});
        continue;
      }
      const uint16_t* pairs = from.packed + packed_bf16_index(column, 0, from.ld);
      for (i64 d = 0; d < depth; d++) {
        vi pair;
        __builtin_memcpy(&pair, pairs + (k + d) / 2 * (2 * kPackedColumns), sizeof pair);
        store(to + d * W, as_float((k + d) % 2 == 0 ? pair << 16 : pair & i32(0xffff0000)));
      }
    }
  }
}

template <int W>
void pack(const Operand& from, i64 line, i64 lines, i64 k, i64 depth, float* panels) {
  if (from.packed != nullptr) return unpack_bf16<W>(from, line, lines, k, depth, panels);
  pack_plain<W>(from, line, lines, k, depth, panels);
  if (!from.rounded) return;
  float* const end = panels + ceil_div(lines, W) * W * depth;
  for (; panels + kLanes <= end; panels += kLanes) store(panels, round_to_bf16(load(panels)));
  if (panels < end) store_first(panels, round_to_bf16(load_first(panels, end - panels)), end - panels);
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
