// c = x·W for a few rows and a W [depth, columns] that is read once, as it lies: what an expert does in decoding.
#pragma once
#include "../../backend/cpu/native/kernel.h"

namespace elapid {
namespace ELAPID_TARGET {

// Rows that share what is read of W, and up to how many reading W as it lies is worth more than packing it.
constexpr i64 kTokensTogether = 4, kFewTokens = 8;
// Vectors of columns of a row's sums; a task's columns are one such run.
constexpr int kTokenVectors = 8;
// Rows of W between a load and its prefetch.
constexpr i64 kTokenAhead = 16;

// Sums of R rows for V vectors of columns, the last one cut after `count` columns. In order of the depth, whatever R and V are.
template <int R, int V>
void token_columns(const float* x, i64 lda, const float* w, i64 columns, i64 depth, i64 count, float* c) {
  vf sums[R][V] = {};
  const bool whole = count == V * kLanes;
  for (i64 k = 0; k < depth; k++) {
    const float* row = w + k * columns;
    vf line[V];
    ELAPID_UNROLL
    for (int v = 0; v < V; v++) {
      // Only the last vector can be cut: the others' loads are plain.
      line[v] = whole || v + 1 < V ? load(row + v * kLanes) : load_first(row + v * kLanes, count - v * kLanes);
      if (v * kLanes % 16 == 0) __builtin_prefetch(row + kTokenAhead * columns + v * kLanes);
    }
    ELAPID_UNROLL
    for (int r = 0; r < R; r++) {
      const vf element = splat(x[r * lda + k]);
      ELAPID_UNROLL
      for (int v = 0; v < V; v++) sums[r][v] += element * line[v];
    }
  }
  for (int r = 0; r < R; r++)
    for (int v = 0; v < V; v++) store_first(c + r * columns + v * kLanes, sums[r][v], count - v * kLanes);
}

template <int R>
void token_block(const float* x, i64 lda, const float* w, i64 columns, i64 depth, i64 count, float* c) {
  constexpr int most = kTokenVectors / R;
  i64 j = 0;
  for (; j + most * kLanes <= count; j += most * kLanes) token_columns<R, most>(x, lda, w + j, columns, depth, most * kLanes, c + j);
  for (; j < count; j += kLanes) token_columns<R, 1>(x, lda, w + j, columns, depth, min(i64(kLanes), count - j), c + j);
}

// c [rows, columns] = x·W
inline void few_tokens(const float* x, i64 lda, i64 rows, const float* w, i64 columns, i64 depth, float* c, Pool& pool) {
  constexpr i64 step = kTokenVectors * kLanes;
  const i64 blocks = ceil_div(columns, step);
  const i64 several = max(i64(1), kElementwiseGrain / (step * max(depth, i64(1))));
  pool.each(ceil_div(blocks, several), [&](i64 task, int) {
    for (i64 block = task * several; block < min((task + 1) * several, blocks); block++) {
      const i64 first = block * step, count = min(step, columns - first);
      for (i64 r = 0; r < rows; r += kTokensTogether) {
        const float* const own = x + r * lda;
        float* const to = c + r * columns + first;
        switch (min(rows - r, kTokensTogether)) {
          case 1: token_block<1>(own, lda, w + first, columns, depth, count, to); break;
          case 2: token_block<2>(own, lda, w + first, columns, depth, count, to); break;
          case 3: token_block<3>(own, lda, w + first, columns, depth, count, to); break;
          default: token_block<4>(own, lda, w + first, columns, depth, count, to); break;
        }
      }
    }
  });
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
