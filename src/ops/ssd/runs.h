// What the forward and the backward pass share. A run is the part of a chunk that one document has: a dense problem without resets, of at most
// kMostRun positions. A task takes a block of heads of one group, and at most kMostFeatures features of each at a time.
#pragma once
#include "../matmul/pack.h"
#include "../selective-scan/scan-math.h"

namespace elapid {
namespace ELAPID_TARGET {

// As in plan.ts.
constexpr i64 kMostRun = 256;
constexpr i64 kMostFeatures = 128;

ELAPID_INLINE i64 whole_vectors(i64 n) { return ceil_div(n, 16) * 16; }
ELAPID_INLINE i64 whole_rows(i64 n) { return ceil_div(n, kTileRows) * kTileRows; }
ELAPID_INLINE i64 whole_columns(i64 n) { return ceil_div(n, kTileColumns) * kTileColumns; }

// The right factor of a product: rows `step` apart in panels of kTileColumns columns that are `panel` apart.
struct Columns {
  const float* x;
  i64 panel, step;

  static Columns rows(const float* x, i64 width) { return {x, kTileColumns, width}; }
  static Columns packed(const float* x, i64 depth) { return {x, kTileColumns * depth, kTileColumns}; }
};

// Which part of a left factor is not zero, and so of which depths the sums are made: all of it, a lower triangle, an upper one; or, of a
// full product, which part is wanted.
enum class Part { kAll, kLower, kUpper, kLowerResult };

// c (+)= a·b for rows packed in panels, `depth` deep, and whole vectors of columns.
template <Part kPart>
__attribute__((noinline)) void multiply_part(const float* a, i64 rows, i64 depth, Columns b, i64 columns, float* c, i64 ldc, bool add) {
  for (i64 j = 0; j < columns; j += kTileColumns) {
    const i64 width = min(columns - j, i64(kTileColumns));
    const int vectors = int(ceil_div(width, kLanes));
    const float* const panel = b.x + j / kTileColumns * b.panel;
    for (i64 i = kPart == Part::kLowerResult ? j / kTileRows * kTileRows : 0; i < rows; i += kTileRows) {
      const int height = int(min(rows - i, i64(kTileRows)));
      const i64 begin = kPart == Part::kUpper ? i : 0, end = kPart == Part::kLower ? min(depth, i + kTileRows) : depth;
      const TileOutput to{c + i * ldc + j, ldc, nullptr, width, add};
      kTiles.of[height - 1][vectors - 1](end - begin, a + i * depth + begin * kTileRows, panel + begin * b.step, b.step, to);
    }
  }
}

// Left and right factors from a matrix of `rows` rows `ld` apart: its rows or its columns as lines.
ELAPID_INLINE void rows_as_lines(const float* x, i64 ld, i64 rows, i64 columns, float* to) {
  pack_plain<kTileRows>({x, ld, true, rows}, 0, rows, 0, columns, to);
}
ELAPID_INLINE void columns_as_lines(const float* x, i64 ld, i64 rows, i64 columns, float* to) {
  pack_plain<kTileRows>({x, ld, false, columns}, 0, columns, 0, rows, to);
}
ELAPID_INLINE Columns rows_as_columns(const float* x, i64 ld, i64 rows, i64 columns, float* to) {
  pack_plain<kTileColumns>({x, ld, true, rows}, 0, rows, 0, columns, to);
  return Columns::packed(to, columns);
}
ELAPID_INLINE Columns columns_as_columns(const float* x, i64 ld, i64 rows, i64 columns, float* to) {
  pack_plain<kTileColumns>({x, ld, false, columns}, 0, columns, 0, rows, to);
  return Columns::packed(to, rows);
}

// The heads of a task, and the part of their features that is worked on.
struct Block {
  i64 batch, index, group, head, heads, feature, features, width;

  template <class Args>
  static Block of(const Args& a, i64 task) {
    const i64 in_group = a.heads / a.groups, blocks = ceil_div(in_group, a.blockHeads);
    Block block;
    block.index = task % blocks;
    block.group = task / blocks % a.groups;
    block.batch = task / blocks / a.groups;
    block.head = block.group * in_group + block.index * a.blockHeads;
    block.heads = min(a.blockHeads, in_group - block.index * a.blockHeads);
    return block;
  }

  template <class Args>
  static i64 tasks(const Args& a) {
    return a.batch * a.groups * ceil_div(a.heads / a.groups, a.blockHeads);
  }

  template <class Args>
  void take_features(const Args& a, i64 first) {
    feature = first;
    features = min(a.headSize - first, kMostFeatures);
    width = whole_vectors(features);
  }

  // Where a head's features begin in a row.
  template <class Args>
  i64 column(const Args& a, i64 h) const {
    return (head + h) * a.headSize + feature;
  }
};

template <class Args>
ELAPID_INLINE bool is_start(const Args& a, i64 row) {
  return a.sequenceStarts != nullptr && a.sequenceStarts[row] != 0;
}

// Step sizes of a run, their slopes, and in units of ln 2 the exponents Δ·A; the decays from the state before the run to each position, and from each to the run's end.
struct Steps {
  float *delta, *slope, *exponent, *from_start, *to_end;

  explicit Steps(Carver& carver) {
    float** const arrays[] = {&delta, &slope, &exponent, &from_start, &to_end};
    for (float** array : arrays) *array = carver.take(kMostRun + 16);
  }
};

template <class Args>
__attribute__((noinline)) void read_steps(const Args& a, i64 row, i64 count, i64 head, const Steps& to) {
  const float bias = a.deltaBias != nullptr ? a.deltaBias[head] : 0.0f, rate = a.A[head] * kLog2E;
  const i64 all = whole_vectors(count);
  for (i64 t = 0; t < count; t++) to.delta[t] = a.delta[(row + t) * a.deltaPitch + head] + bias;
  for (i64 t = count; t < all; t++) to.delta[t] = 0.0f;
  for (i64 t = 0; t < all; t += kLanes) {
    vf delta = load(to.delta + t), slope = splat(1.0f);
    if (a.softplus) delta = softplus_and_slope(delta, slope);
    const vf least = splat(a.deltaLeast), largest = splat(a.deltaLargest);
    slope = delta < least ? vf{} : slope;
    slope = delta > largest ? vf{} : slope;
    delta = delta < least ? least : delta;
    delta = delta > largest ? largest : delta;
    store(to.delta + t, delta);
    store(to.slope + t, slope);
    store(to.exponent + t, delta * rate);
  }
  float sum = 0.0f;
  for (i64 t = 0; t < count; t++) to.from_start[t] = sum += to.exponent[t];
  sum = 0.0f;
  for (i64 t = count - 1; t >= 0; t--) {
    to.to_end[t] = sum;
    sum += to.exponent[t];
  }
  for (i64 t = count; t < all; t++) to.from_start[t] = to.to_end[t] = 0.0f;
  for (i64 t = 0; t < all; t += kLanes) {
    store(to.from_start + t, exp2(load(to.from_start + t)));
    store(to.to_end + t, exp2(load(to.to_end + t)));
  }
}

ELAPID_INLINE vi lane_numbers() {
  vi lanes;
  for (int i = 0; i < kLanes; i++) lanes[i] = i;
  return lanes;
}

// Calls f(t, s, L) for vectors of the decays L from positions s on to t, 0 for those after t, in rows that end at a whole tile. `sums` is room for
// the exponents: sums over s < k ≤ t, each made by adding what a position adds.
template <class F>
ELAPID_INLINE void each_decay(const float* exponents, i64 count, float* sums, F f) {
  const vi lanes = lane_numbers();
  const i64 all = whole_vectors(count);
  for (i64 s = 0; s < all; s += kLanes) store(sums + s, vf{});
  for (i64 t = 0; t < count; t++) {
    const vf exponent = splat(exponents[t]);
    i64 s = 0;
    for (; s + kLanes <= t; s += kLanes) {
      const vf sum = load(sums + s) + exponent;
      store(sums + s, sum);
      f(t, s, exp2(sum));
    }
    const vi own = splat(i32(t - s));
    const vf sum = lanes < own ? load(sums + s) + exponent : vf{};
    store(sums + s, sum);
    f(t, s, lanes <= own ? exp2(sum) : vf{});
    s += kLanes;
    for (const i64 end = min(all, ceil_div(t + 1 + kTileRows, kLanes) * kLanes); s < end; s += kLanes) f(t, s, vf{});
  }
}

// to[t] = factors[t]·from[t] for rows of `features` numbers, zero up to `width`. No factors: 1.
ELAPID_INLINE void copy_rows(const float* from, i64 pitch, i64 count, i64 features, i64 width, const float* factors, float* to) {
  for (i64 t = 0; t < count; t++) {
    const vf factor = splat(factors != nullptr ? factors[t] : 1.0f);
    float* const row = to + t * width;
    for (i64 i = features / kLanes * kLanes; i < width; i += kLanes) store(row + i, vf{});
    each_vector_of(features, [&](i64 i, i64 n) { store_first(row + i, load_first(from + t * pitch + i, n) * factor, n); });
  }
}

ELAPID_INLINE void scale_rows(float* x, i64 count, i64 width, const float* factors) {
  for (i64 t = 0; t < count; t++)
    for (i64 i = 0; i < width; i += kLanes) store(x + t * width + i, load(x + t * width + i) * splat(factors[t]));
}

ELAPID_INLINE void scale_all(float* x, i64 count, float factor) {
  for (i64 i = 0; i < count; i += kLanes) store(x + i, load(x + i) * splat(factor));
}

ELAPID_INLINE void clear(float* x, i64 count) {
  for (i64 i = 0; i < count; i += kLanes) store(x + i, vf{});
}

// A head's state as kernels hold it, [states][width], from the caller's [features][states], or zeros; and back.
ELAPID_INLINE void state_in(const float* from, i64 features, i64 states, i64 width, float* to) {
  clear(to, states * width);
  if (from == nullptr) return;
  for (i64 p = 0; p < features; p++)
    for (i64 n = 0; n < states; n++) to[n * width + p] = from[p * states + n];
}
ELAPID_INLINE void state_out(const float* from, i64 features, i64 states, i64 width, float* to) {
  for (i64 p = 0; p < features; p++)
    for (i64 n = 0; n < states; n++) to[p * states + n] = from[n * width + p];
}

// (D·x + sums)·silu(z) for the rows of a run, or what is in front of the gate.
template <class Args>
ELAPID_INLINE void add_skip(const Args& a, const Block& block, i64 h, i64 row, i64 count, float* y) {
  if (a.D == nullptr) return;
  const i64 column = block.column(a, h);
  for (i64 t = 0; t < count; t++) {
    const float* const x = a.x + (row + t) * a.xPitch + column;
    float* const to = y + t * block.width;
    each_vector_of(block.features, [&](i64 i, i64 n) {
      const vf skip = a.skipByFeature ? load_first(a.D + column + i, n) : splat(a.D[block.head + h]);
      store(to + i, load(to + i) + skip * load_first(x + i, n));
    });
  }
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
