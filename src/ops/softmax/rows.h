// Maxima and sums of rows of logits: what softmax and cross-entropy share.
#pragma once
#include "../../backend/cpu/native/math.h"

namespace elapid {
namespace ELAPID_TARGET {

// A row is summed in float over pieces of this many elements and over the pieces in double, so that a vocabulary of
// 50,000 loses no more digits than one of 1,000.
constexpr i64 kSumPiece = 1024;

// NaN elements may be skipped: what subtracts the result from them is NaN again.
ELAPID_INLINE float row_max(const float* x, i64 count) {
  vf m0 = splat(-__builtin_inff()), m1 = m0, m2 = m0, m3 = m0;
  i64 i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
    m0 = max(m0, load(x + i));
    m1 = max(m1, load(x + i + kLanes));
    m2 = max(m2, load(x + i + 2 * kLanes));
    m3 = max(m3, load(x + i + 3 * kLanes));
  }
  for (; i < count; i += kLanes) m0 = max(m0, load_first(x + i, count - i, -__builtin_inff()));
  return largest(max(max(m0, m1), max(m2, m3)));
}

// e^x for x ≤ 0, and exactly 0 where exp_nonpositive would stop at its smallest value.
ELAPID_INLINE vf exp_shifted(vf x) {
  const vf e = exp_nonpositive(x);
  return x < splat(kExpLowest) ? vf{} : e;
}

// Calls f(i, n) → vf for vectors of a row of `count` (n ≥ kLanes, or the rest) and gives the sum of the results' first n
// lanes; the lanes after them must be 0.
template <class F>
ELAPID_INLINE double sum_pieces(i64 count, F f) {
  double total = 0;
  for (i64 begin = 0; begin < count; begin += kSumPiece) {
    const i64 end = min(begin + kSumPiece, count);
    vf s0{}, s1{};
    i64 i = begin;
    for (; i + 2 * kLanes <= end; i += 2 * kLanes) {
      s0 += f(i, i64(kLanes));
      s1 += f(i + kLanes, i64(kLanes));
    }
    for (; i < end; i += kLanes) s0 += f(i, end - i);
    total += double(sum(s0 + s1));
  }
  return total;
}

// Σ e^(x − largest)
ELAPID_INLINE double sum_exp(const float* x, i64 count, float largest) {
  return sum_pieces(count, [&](i64 i, i64 n) { return exp_shifted(load_first(x + i, n, -__builtin_inff()) - largest); });
}

ELAPID_INLINE float log(float x) { return log(splat(x))[0]; }

}  // namespace ELAPID_TARGET
}  // namespace elapid
