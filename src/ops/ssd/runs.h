// What the forward and the backward pass share. A run is the part of a chunk that one document has: a dense problem without resets, of at most
// kMostRun positions. A task takes a block of heads of one group, and at most kMostFeatures features of each at a time.
#pragma once
#include "../attention/tile.h"
#include "../selective-scan/scan-math.h"

namespace elapid {
namespace ELAPID_TARGET {

// As in plan.ts.
constexpr i64 kMostRun = 256;
constexpr i64 kMostFeatures = 128;
constexpr i64 kMostStates = 512;

// Floats between the rows of a run in scratch: of features, of states, of positions. Left factors of products are read as they lie, by constant
// distances; those are no powers of two, so that rows lie in different sets of a cache.
constexpr i64 kFeatures = kMostFeatures + 16;
constexpr i64 kStates = kMostStates + 16;
constexpr i64 kSquare = kMostRun + 16;

ELAPID_INLINE i64 whole_vectors(i64 n) { return ceil_div(n, 16) * 16; }
// Products write whole tiles: what scratch has for n rows.
ELAPID_INLINE i64 whole_rows(i64 n) { return ceil_div(n, kSumRows) * kSumRows; }

// Which part of a left factor is not zero, and so of which depths the sums are made: all of it, a lower triangle, an upper one; or, of a
// full product, that the lower triangle alone is wanted.
enum class Part { kAll, kLower, kUpper, kLowerResult };

// The left factor of a product: rows that lie kRow floats apart, or with kRow = 0 columns that lie `step` apart.
struct Left {
  const float* x;
  i64 step = 0;
};

// The right one: rows `step` apart, in whole vectors.
struct Right {
  const float* x;
  i64 step;
};

// Where a product goes, and for Sum::kScale by what its rows are multiplied first: `factors`, factor_step apart.
struct Result {
  float* x;
  i64 step;
  const float* factors = nullptr;
  i64 factor_step = 0;
};

// c (=, += …) a·b in whole tiles; `rows` and `columns` are those wanted of c.
template <i64 kRow, Part kPart, Sum kSum>
ELAPID_NOINLINE void multiply_part(Left a, i64 rows, i64 depth, Right b, i64 columns, Result c) {
  each_vectors(ceil_div(columns, kLanes), [&]<int V>(i64 first) {
    const i64 j = first * kLanes;
    for (i64 i = kPart == Part::kLowerResult ? j / kSumRows * kSumRows : 0; i < rows; i += kSumRows) {
      const i64 begin = kPart == Part::kUpper ? i : 0, end = kPart == Part::kLower ? min(depth, i + kSumRows) : depth;
      sum_tile<V, kRow, kSum>(a.x + (kRow == 0 ? i + begin * a.step : i * kRow + begin), a.step, b.x + begin * b.step + j, b.step, end - begin,
                              c.x + i * c.step + j, c.step, c.factors + i * c.factor_step);
    }
  });
}

// to[j][i] = x[i][j] for `rows` rows of x, `ld` apart. Rows of the result, `step` apart, end in zeros up to a whole vector, unless kExact.
template <bool kExact>
ELAPID_NOINLINE void transpose_into(const float* x, i64 ld, i64 rows, i64 columns, float* to, i64 step) {
  for (i64 i = 0; i < rows; i += kLanes) {
    for (i64 j = 0; j < columns; j += kLanes) {
      const i64 n = min(columns - j, i64(kLanes));
      vf square[kLanes];
      for (int l = 0; l < kLanes; l++) square[l] = i + l < rows ? load_first(x + (i + l) * ld + j, n) : vf{};
      transpose(square);
      for (int l = 0; l < n; l++) store_first(to + (j + l) * step + i, square[l], kExact ? rows - i : i64(kLanes));
    }
  }
}

// The same as a right factor: in `to`, transposed_step(rows) from row to row.
ELAPID_INLINE i64 transposed_step(i64 rows) { return whole_vectors(rows) + 16; }
ELAPID_INLINE Right transposed(const float* x, i64 ld, i64 rows, i64 columns, float* to) {
  transpose_into<false>(x, ld, rows, columns, to, transposed_step(rows));
  return {to, transposed_step(rows)};
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
  // The decay over the run, kSumRows times.
  float* whole;

  explicit Steps(Carver& carver) {
    float** const arrays[] = {&delta, &slope, &exponent, &from_start, &to_end};
    for (float** array : arrays) *array = carver.take(kMostRun + 16);
    whole = carver.take(kSumRows);
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
  for (int i = 0; i < kSumRows; i++) to.whole[i] = to.from_start[count - 1];
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
    for (const i64 end = min(all, ceil_div(t + 1 + kSumRows, kLanes) * kLanes); s < end; s += kLanes) f(t, s, vf{});
  }
}

// Asks for the numbers that the next head has behind this one's: rows lie kilobytes apart, which hardware does not foresee.
template <int kWrite>
ELAPID_INLINE void ask_for_next(const float* x, i64 pitch, i64 count, i64 features) {
  if (x == nullptr) return;
  for (i64 t = 0; t < count; t++)
    for (i64 i = 0; i < features; i += 16) __builtin_prefetch(x + t * pitch + features + i, kWrite);
}

// to[t] = factors[t]·from[t] for rows of `features` numbers, zero up to whole vectors. No factors: 1.
ELAPID_INLINE void copy_rows(const float* from, i64 pitch, i64 count, i64 features, const float* factors, float* to, i64 step) {
  for (i64 t = 0; t < count; t++) {
    const vf factor = splat(factors != nullptr ? factors[t] : 1.0f);
    float* const row = to + t * step;
    for (i64 i = features / kLanes * kLanes; i < whole_vectors(features); i += kLanes) store(row + i, vf{});
    each_vector_of(features, [&](i64 i, i64 n) { store_first(row + i, load_first(from + t * pitch + i, n) * factor, n); });
  }
}

ELAPID_INLINE void scale_rows(float* x, i64 step, i64 count, i64 width, const float* factors) {
  for (i64 t = 0; t < count; t++)
    for (i64 i = 0; i < width; i += kLanes) store(x + t * step + i, load(x + t * step + i) * splat(factors[t]));
}

ELAPID_INLINE void clear(float* x, i64 count) {
  for (i64 i = 0; i < count; i += kLanes) store(x + i, vf{});
}

// A head's state as kernels hold it, [states][width], from the caller's [features][states], or zeros; and back.
ELAPID_INLINE void state_in(const float* from, i64 features, i64 states, i64 width, float* to) {
  clear(to, states * width);
  if (from != nullptr) transpose_into<false>(from, states, features, states, to, width);
}
ELAPID_INLINE void state_out(const float* from, i64 features, i64 states, i64 width, float* to) {
  transpose_into<true>(from, width, states, features, to, states);
}

// The same, [states][features] in rows `pitch` apart.
ELAPID_INLINE void copy_out(const float* from, const Block& block, i64 states, float* to, i64 pitch) {
  for (i64 n = 0; n < states; n++) __builtin_memcpy(to + n * pitch, from + n * block.width, size_t(block.features) * sizeof(float));
}

// y += D·x for the rows of a run.
template <class Args>
ELAPID_INLINE void add_skip(const Args& a, const Block& block, i64 h, i64 row, i64 count, float* y) {
  if (a.D == nullptr) return;
  const i64 column = block.column(a, h);
  for (i64 t = 0; t < count; t++) {
    const float* const x = a.x + (row + t) * a.xPitch + column;
    float* const to = y + t * kFeatures;
    each_vector_of(block.features, [&](i64 i, i64 n) {
      const vf skip = a.skipByFeature ? load_first(a.D + column + i, n) : splat(a.D[block.head + h]);
      store(to + i, load(to + i) + skip * load_first(x + i, n));
    });
  }
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
