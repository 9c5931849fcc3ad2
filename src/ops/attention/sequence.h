// Where the keys of a sequence are and which of them its queries see, for the forward and the backward pass.
#pragma once
#include "../../backend/cpu/native/half.h"
#include "../../backend/cpu/native/kernel.h"
#include "tile.h"

namespace elapid {
namespace ELAPID_TARGET {

// Positions [first, last], in tiles of kPage.
struct Span {
  i64 first = INT64_MAX;
  i64 last = -1;

  bool empty() const { return last < first; }
  void include(Span other) {
    first = min(first, other.first);
    last = max(last, other.last);
  }
  // Its part in a tile, counted from the tile's beginning.
  Span within(i64 tile) const { return {max(first - tile * kPage, i64(0)), min(last - tile * kPage, kPage - 1)}; }
};

// Sequence `batch` of the arguments of the forward or the backward kernel. Queries that share a head of keys are rows of it, position after position.
template <class Args>
struct Sequence {
  const Args& a;
  i64 batch;

  i64 before() const { return a.positions != nullptr ? a.positions[batch] : 0; }
  i64 group() const { return a.heads / a.kvHeads; }
  i64 rows() const { return a.length * group(); }

  // What query t sees. Positions beyond the table of pages would be somebody else's.
  Span seen(i64 t) const {
    const i64 own = before() + t, end = a.pages != nullptr ? a.pagesPerRow * kPage : a.length;
    const i64 begin = a.begins != nullptr ? a.begins[batch * a.length + t] : 0;
    return {max(max(begin, a.window > 0 ? own - a.window + 1 : 0), i64(0)), min(own, end - 1)};
  }

  // The row of a tile's first position in k and v, in heads; rows of positions are kvHeads apart.
  i64 tile_row(i64 tile) const {
    if (a.pages == nullptr) return (batch * a.length + tile * kPage) * a.kvHeads;
    return i64(a.pages[batch * a.pagesPerRow + tile]) * kPage * a.kvHeads;
  }

  // Row r of the queries of a head of keys: their position, and where they are in q, y and their gradients, in heads.
  i64 query_position(i64 r) const { return r / group(); }
  i64 query_head(i64 kv_head, i64 r) const { return kv_head * group() + r % group(); }
  i64 query_row(i64 kv_head, i64 r) const { return (batch * a.length + query_position(r)) * a.heads + query_head(kv_head, r); }
  // In logSums and deltas.
  i64 query_place(i64 kv_head, i64 r) const { return (batch * a.heads + query_head(kv_head, r)) * a.length + query_position(r); }
};

// Rows between a copy and its prefetch: rows of a head lie a few kilobytes apart, which the processor does not see coming.
constexpr i64 kRowsAhead = 12;

template <int kWrite = 0, class T>
ELAPID_INLINE void prefetch_row(const T* row, i64 size) {
  for (i64 i = 0; i < size; i += i64(64 / sizeof(T))) __builtin_prefetch(row + i, kWrite);
}

// Floats of a row in scratch: whole vectors.
ELAPID_INLINE i64 padded(i64 size) { return ceil_div(size, kLanes) * kLanes; }

template <class T>
ELAPID_INLINE void copy_padded(const T* from, i64 size, float* to) {
  each_vector_of(size, [&](i64 i, i64 n) { store(to + i, load_first(from + i, n)); });
}

ELAPID_INLINE void fill_zero(float* to, i64 count) {
  for (i64 i = 0; i < count; i += kLanes) store(to + i, vf{});
}

template <class Args, class T>
void pack_tile_of(const Sequence<Args>& s, const T* from, i64 pitch, i64 kv_head, i64 tile, Span used, float* to) {
  const T* row = from + (s.tile_row(tile) + kv_head) * pitch;
  for (i64 j = 0; j < kPage; j++, row += s.a.kvHeads * pitch, to += kKeyStride) {
    if (j + kRowsAhead <= used.last) prefetch_row(row + kRowsAhead * s.a.kvHeads * pitch, s.a.size);
    if (used.first <= j && j <= used.last) copy_padded(row, s.a.size, to);
    else fill_zero(to, s.a.size);
  }
}

// Rows [used.first, used.last] of a tile of keys or values, [kPage][kKeyStride]; the others become zero: nobody may have written them.
template <class Args>
void pack_tile(const Sequence<Args>& s, const float* from, i64 pitch, i64 kv_head, i64 tile, Span used, float* to) {
  if (s.a.halfKeys) pack_tile_of(s, reinterpret_cast<const half*>(from), pitch, kv_head, tile, used, to);
  else pack_tile_of(s, from, pitch, kv_head, tile, used, to);
}

// A panel of queries: which keys each sees, and which keys any or all of them see.
struct Panel {
  i32 first[kPanel], last[kPanel];
  Span any, all;
  i64 count;

  template <class Args>
  void set(const Sequence<Args>& s, i64 row) {
    count = min(s.rows() - row, kPanel);
    any = {};
    all = {0, INT64_MAX};
    for (i64 i = 0; i < count; i++) {
      const Span span = s.seen(s.query_position(row + i));
      first[i] = i32(span.first);
      last[i] = i32(span.last);
      any.include(span);
      all = {max(all.first, span.first), min(all.last, span.last)};
    }
    // Rows that are none see what all see: they need no mask, and their results go nowhere.
    for (i64 i = count; i < kPanel; i++) {
      first[i] = 0;
      last[i] = INT32_MAX;
    }
  }

  // The keys of a tile that it sees, in groups of kSumRows.
  Span groups(i64 tile) const {
    const Span span = any.within(tile);
    if (span.empty()) return span;
    return {span.first / kSumRows * kSumRows, ceil_div(span.last + 1, kSumRows) * kSumRows - 1};
  }

  // Makes products [key][query] of keys that a query does not see so low that their weights are 0: finite, as 2^x is not for −∞.
  void hide(i64 tile, Span keys, float* products) const {
    if (all.first <= tile * kPage + keys.first && tile * kPage + keys.last <= all.last) return;
    for (i64 v = 0; v < kPanel; v += kLanes) {
      vi from, to;
      __builtin_memcpy(&from, first + v, sizeof from);
      __builtin_memcpy(&to, last + v, sizeof to);
      for (i64 j = keys.first; j <= keys.last; j++) {
        const vi position = splat(i32(tile * kPage + j));
        float* const at = products + j * kPanel + v;
        store(at, ((position >= from) & (position <= to)) != 0 ? load(at) : splat(-3e38f));
      }
    }
  }
};

// Rows [row, row + count) of x, [B·L·H] heads `pitch` apart, times `scale`, as columns [size][kPanel] and, unless it is null, as rows [kPanel][padded size]. What the
// panel has beyond `count` is zero.
template <class Args>
void pack_panel(const Sequence<Args>& s, const float* x, i64 pitch, i64 kv_head, i64 row, i64 count, float scale, float* columns, float* rows) {
  const i64 size = s.a.size, width = padded(size);
  for (i64 v = 0; v < kPanel; v += kLanes) {
    const float* from[kLanes];
    for (i64 i = 0; i < kLanes; i++) {
      from[i] = x + s.query_row(kv_head, row + min(v + i, count - 1)) * pitch;
      prefetch_row(x + s.query_row(kv_head, row + min(v + i + kLanes, count - 1)) * pitch, size);
    }
    for (i64 d = 0; d < size; d += kLanes) {
      const i64 n = min(size - d, i64(kLanes));
      vf square[kLanes];
      for (i64 i = 0; i < kLanes; i++) square[i] = v + i < count ? load_first(from[i] + d, n) * splat(scale) : vf{};
      if (rows != nullptr) {
        for (i64 i = 0; i < kLanes; i++) store(rows + (v + i) * width + d, square[i]);
      }
      transpose(square);
      for (i64 i = 0; i < n; i++) store(columns + (d + i) * kPanel + v, square[i]);
    }
  }
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
