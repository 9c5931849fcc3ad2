// Elementary functions of the scan. They are separate from math.h because they trade differently: no special values to
// keep, as few instructions as possible, and the pieces (a gain next to its decay, a slope next to its value) together.
#pragma once
#include "../../backend/cpu/native/simd.h"

namespace elapid {
namespace ELAPID_TARGET {

constexpr float kLog2E = 1.44269504088896341f;
constexpr float kLn2 = 0.693147180559945309f;

// 2^f − 1 for |f| ≤ ½. Minimax in the error relative to the value, so that decays close to 1 keep their distance from 1:
// that distance, not the decay, is what a long memory accumulates. With rounding: 0.6 units in the last place of 2^f.
ELAPID_INLINE vf exp2_fraction_m1(vf f) {
  vf p = splat(1.546973508083193e-4f);
  p = p * f + 1.339086680673063e-3f;
  p = p * f + 9.618030861020088e-3f;
  p = p * f + 5.550356954336166e-2f;
  p = p * f + 2.402265071868897e-1f;
  p = p * f + 6.931471824645996e-1f;
  return p * f;
}

// x = n + f with n whole and |f| ≤ ½; m·2ⁿ.
#if ELAPID_LANES == 16 && defined(__AVX512F__)
// Two instructions do all of it, overflow and underflow included.
struct Exponent {
  vf n;
  ELAPID_INLINE vf scale(vf m) const { return __builtin_ia32_scalefps512_mask(m, n, m, -1, 4); }
};

ELAPID_INLINE Exponent split_exponent(vf x, vf& f) {
  const vf n = __builtin_ia32_rndscaleps_mask(x, 8, x, -1, 4);
  f = x - n;
  return {n};
}
#else
// x clamped to where 2ˣ is a normal float: below it is 1.2e-38, as good as 0 for a state; above 3.4e38. NaN stays NaN.
ELAPID_INLINE vf clamp_exponent(vf x) { return min(splat(127.99f), max(splat(-126.0f), x)); }

struct Exponent {
  vi shifted;
  ELAPID_INLINE vf scale(vf m) const { return as_float(as_int(m) + (shifted << 23)); }
};

ELAPID_INLINE Exponent split_exponent(vf x, vf& f) {
  const float magic = 12582912.0f;  // 1.5·2²³: adding it rounds to an integer in the low mantissa bits
  const vf clamped = clamp_exponent(x);
  const vf shifted = clamped + magic;
  f = clamped - (shifted - magic);
  return {as_int(shifted)};
}
#endif

// 2ˣ, any x.
#if ELAPID_LANES == 16 && defined(__AVX512F__)
// x = n + f with n in sixteenths and |f| ≤ 1/32: nine instructions, as a table of sixteen in a register replaces half of the
// polynomial. Within 1.0 units in the last place; within 0.54 for |x| ≤ 1/32, where the entry is 1: long memories.
ELAPID_INLINE vf exp2(vf x) {
  const vf table = {1.0f,          1.0442737341f, 1.0905077457f, 1.1387885809f, 1.1892070770f, 1.2418577671f,
                    1.2968395948f, 1.3542555571f, 1.4142135382f, 1.4768261909f, 1.5422108173f, 1.6104903221f,
                    1.6817928553f, 1.7562521696f, 1.8340080976f, 1.9152065516f};
  const float magic = 786432.0f;  // 1.5·2¹⁹: adding it rounds to sixteenths, their number in the low mantissa bits
  const vf shifted = x + magic, n = shifted - magic, f = x - n;
#if defined(__clang__)
  const vf entry = __builtin_ia32_permvarsf512(table, as_int(shifted));
#else
  const vf entry = __builtin_ia32_permvarsf512_mask(table, as_int(shifted), table, -1);
#endif
  const vf m1 = ((f * 5.550264e-2f + 2.4023353e-1f) * f + 6.931472e-1f) * f;
  return Exponent{n}.scale(m1 * entry + entry);  // times 2^⌊n⌋
}

// 1/x within a unit in the last place, 0 where that is below the normal numbers: division takes sixteen cycles.
ELAPID_INLINE vf reciprocal(vf x) {
  const vf r = __builtin_ia32_rcp14ps512_mask(x, x, -1);
  return r * (2.0f - x * r);
}
#else
ELAPID_INLINE vf exp2(vf x) {
  vf f;
  const Exponent e = split_exponent(x, f);
  return e.scale(exp2_fraction_m1(f) + 1.0f);
}

ELAPID_INLINE vf reciprocal(vf x) { return 1.0f / x; }
#endif

// 2ˣ, and 2ˣ − 1 without cancellation.
ELAPID_INLINE vf exp2_and_m1(vf x, vf& m1) {
  vf f;
  const Exponent e = split_exponent(x, f);
  const vf p = exp2_fraction_m1(f);
  const vf s = e.scale(splat(1.0f));
  m1 = p * s + (s - 1.0f);
  return p * s + s;
}

// ln(1 + e^x) and its slope, the sigmoid: max(x, 0) + ln(1 + w) with w = e^−|x|, and ln(1 + w) = 2·artanh(w / (2 + w)).
ELAPID_INLINE vf softplus_and_slope(vf x, vf& slope) {
  const vf w = exp2(abs(x) * -kLog2E);
  slope = (x < vf{} ? w : splat(1.0f)) * reciprocal(1.0f + w);
  const vf s = w * reciprocal(2.0f + w), z = s * s;
  vf p = splat(1.400599628686905e-1f);
  p = p * z + 1.400090157985687e-1f;
  p = p * z + 2.001076340675354e-1f;
  p = p * z + 3.333320915699005e-1f;
  const vf t = s + s;
  return max(x, vf{}) + (p * z * t + t);
}

// The exponent is held where the reciprocal's steps stay finite.
ELAPID_INLINE vf fast_sigmoid(vf x) { return reciprocal(1.0f + exp2(min(splat(126.0f), x * -kLog2E))); }

// Zero-order hold. With x = ΔA and decay = e^x: the gain (e^x − 1) / A, which is Δ where x vanishes.
ELAPID_INLINE vf hold_gain(vf delta, vf x, vf decay_m1, vf inverse_a) {
  return abs(x) < splat(6e-8f) ? delta : decay_m1 * inverse_a;
}

// Its slope by A: (Δ·e^x − gain) / A = Δ²·ψ(x) with ψ(x) = (x·e^x − e^x + 1) / x² = Σ (j + 1) / (j + 2)!·xʲ; the series
// where the quotient would cancel.
ELAPID_INLINE vf hold_gain_slope(vf delta, vf x, vf decay, vf gain, vf inverse_a) {
  vf p = splat(9.0f / 3628800.0f);
  p = p * x + 8.0f / 362880.0f;
  p = p * x + 7.0f / 40320.0f;
  p = p * x + 6.0f / 5040.0f;
  p = p * x + 5.0f / 720.0f;
  p = p * x + 4.0f / 120.0f;
  p = p * x + 3.0f / 24.0f;
  p = p * x + 2.0f / 6.0f;
  p = p * x + 1.0f / 2.0f;
  return abs(x) < splat(0.75f) ? delta * delta * p : (delta * decay - gain) * inverse_a;
}

// Lane i of the result is the sum over the lanes of v[i]: a transposition that adds on the way, kLanes − 1 additions where
// kLanes separate sums would take kLanes·log₂(kLanes).
// Own lanes are a blend, the others a permutation.
#define ELAPID_OWN(i) ((i) & kStride ? kLanes + (i) : (i))
#define ELAPID_OTHER(i) ((i) & kStride ? kLanes + (i) - kStride : (i) + kStride)
#define ELAPID_FOUR(f, i) f(i), f(i + 1), f(i + 2), f(i + 3)
#if ELAPID_LANES == 4
#define ELAPID_EACH_LANE(f) ELAPID_FOUR(f, 0)
#elif ELAPID_LANES == 8
#define ELAPID_EACH_LANE(f) ELAPID_FOUR(f, 0), ELAPID_FOUR(f, 4)
#else
#define ELAPID_EACH_LANE(f) ELAPID_FOUR(f, 0), ELAPID_FOUR(f, 4), ELAPID_FOUR(f, 8), ELAPID_FOUR(f, 12)
#endif

template <int kStride>
ELAPID_INLINE vf fold_lanes(vf a, vf b) {
  return __builtin_shufflevector(a, b, ELAPID_EACH_LANE(ELAPID_OWN)) + __builtin_shufflevector(a, b, ELAPID_EACH_LANE(ELAPID_OTHER));
}

// Depth first, so that few vectors are alive at a time.
template <int kCount = kLanes>
ELAPID_INLINE vf sum_each(const vf* v) {
  if constexpr (kCount == 1) return v[0];
  else return fold_lanes<kCount / 2>(sum_each<kCount / 2>(v), sum_each<kCount / 2>(v + kCount / 2));
}

#undef ELAPID_OWN
#undef ELAPID_OTHER
#undef ELAPID_FOUR
#undef ELAPID_EACH_LANE

}  // namespace ELAPID_TARGET
}  // namespace elapid
