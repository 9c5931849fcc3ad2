// Elementary functions on vectors. Errors are stated against the exact result and tested in test/ops/math.test.ts.
#pragma once
#include "simd.h"

namespace elapid {
namespace ELAPID_TARGET {

ELAPID_INLINE vf sqrt(vf x) {
  vf r;
  for (int i = 0; i < kLanes; i++) r[i] = __builtin_sqrtf(x[i]);
  return r;
}

// e^x = 2ᵏ·e^r for a clamped x = k·ln 2 + r with |r| ≤ ln 2 / 2: gives e^r and k. Polynomial: Cephes' expf.
ELAPID_INLINE vf exp_reduced(vf clamped, vi& k) {
  const float magic = 12582912.0f;  // 1.5·2²³: adding it rounds to an integer in the low mantissa bits
  const vf shifted = clamped * 1.44269504088896341f + magic;
  const vf n = shifted - magic;
  vf r = clamped - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  vf p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  k = as_int(shifted) - as_int(splat(magic));
  return p * (r * r) + r + 1.0f;
}

constexpr float kExpLowest = -87.33654f;  // below, the result would be subnormal: it is 0
constexpr float kExpHighest = 88.72283f;

// e^x within 2 units in the last place; 0 below kExpLowest, +∞ above kExpHighest, NaN for NaN.
ELAPID_INLINE vf exp(vf x) {
  vi k;
  const vf e = exp_reduced(min(max(x, splat(kExpLowest)), splat(kExpHighest)), k);
  // 2ᵏ in two factors: k = 128 has no float of its own.
  const vi half = k >> 1;
  vf result = e * as_float((half + 127) << 23) * as_float((k - half + 127) << 23);
  result = x < splat(kExpLowest) ? vf{} : result;
  result = x > splat(kExpHighest) ? splat(__builtin_inff()) : result;
  return x != x ? x : result;
}

// e^x for x ≤ 0, the decay of the scan: the same error, fewer instructions. Below kExpLowest it stays at 1.2e-38, which
// times a state is as good as 0. NaN stays NaN.
ELAPID_INLINE vf exp_nonpositive(vf x) {
  vi k;
  const vf e = exp_reduced(x < splat(kExpLowest) ? splat(kExpLowest) : x, k);
  return e * as_float((k + 127) << 23);
}

// e^x for x clamped to [kExpLowest, 87], both factors of the result normal numbers: for sums and quotients such as
// 1 / (1 + e^−x), where what lies outside cannot be told from its ends. Half the instructions of exp.
ELAPID_INLINE vf exp_bounded(vf x) {
  vi k;
  const vf e = exp_reduced(min(max(x, splat(kExpLowest)), splat(87.0f)), k);
  return e * as_float((k + 127) << 23);
}

// ln x for normal x > 0, within 2 units in the last place. −∞ at 0, NaN below.
// x = m·2ᵏ with √½ ≤ m < √2; ln m by Cephes' polynomial in m − 1.
ELAPID_INLINE vf log(vf x) {
  const vi bits = as_int(x);
  vi k = ((bits >> 23) & 0xff) - 126;
  vf m = as_float((bits & 0x007fffff) | 0x3f000000);  // [½, 1)
  const vi small = m < splat(0.707106781186547524f);
  k = k + small;  // a true lane is −1
  m = small ? m + m : m;
  m = m - 1.0f;
  const vf z = m * m;
  vf p = splat(7.0376836292e-2f);
  p = p * m - 1.1514610310e-1f;
  p = p * m + 1.1676998740e-1f;
  p = p * m - 1.2420140846e-1f;
  p = p * m + 1.4249322787e-1f;
  p = p * m - 1.6668057665e-1f;
  p = p * m + 2.0000714765e-1f;
  p = p * m - 2.4999993993e-1f;
  p = p * m + 3.3333331174e-1f;
  const vf e = __builtin_convertvector(k, vf);
  vf y = p * m * z + e * -2.12194440e-4f - z * 0.5f;
  vf result = m + y + e * 0.693359375f;
  result = x == vf{} ? splat(-__builtin_inff()) : result;
  result = x < vf{} ? splat(__builtin_nanf("")) : result;
  result = x == splat(__builtin_inff()) ? x : result;
  return x != x ? x : result;
}

// ln(1 + x) for x ≥ 0 without cancellation: what rounding 1 + x lost is given back as a factor (Kahan).
ELAPID_INLINE vf log1p_nonnegative(vf x) {
  const vf u = x + 1.0f;
  const vf d = u - 1.0f;
  const vi tiny = d == vf{};
  return tiny ? x : log(u) * (x / (tiny ? splat(1.0f) : d));
}

// ln(1 + e^x), linear above 20 as in the published models.
ELAPID_INLINE vf softplus(vf x) { return x > splat(20.0f) ? x : log1p_nonnegative(exp(x > splat(20.0f) ? vf{} : x)); }

ELAPID_INLINE vf sigmoid(vf x) { return 1.0f / (1.0f + exp(-x)); }

ELAPID_INLINE vf silu(vf x) { return x / (1.0f + exp(-x)); }

ELAPID_INLINE vf tanh(vf x) {
  // Odd polynomial near zero, where 1 − 2/(e^{2x} + 1) would cancel.
  const vf a = abs(x);
  const vf z = x * x;
  vf p = splat(-5.70498872745e-3f);
  p = p * z + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  const vf near = p * z * x + x;
  const vf far = 1.0f - 2.0f / (exp(a + a) + 1.0f);
  return a < splat(0.625f) ? near : (x < vf{} ? -far : far);
}

// e^(−a²/2) for 0 ≤ a ≤ 14, within 3 units in the last place. The square of a's upper half is exact; e^−d of the rest is a short
// series, since d < 0.1.
ELAPID_INLINE vf gaussian(vf a) {
  const vf upper = as_float(as_int(a) & ~0xfff);
  const vf d = (a - upper) * (a + upper) * 0.5f;
  const vf rest = 1.0f - d * (1.0f - d * 0.5f * (1.0f - d * (1.0f / 3.0f) * (1.0f - d * 0.25f)));
  return exp(upper * upper * -0.5f) * rest;
}

// Φ(x) = ½·(1 + erf(x/√2)) and its derivative. The tail beyond a = |x| is R(u)·e^(−a²/2) / (a + 2.5), where R is a polynomial of
// u = (a − 2.5) / (a + 2.5), interpolated at the Chebyshev nodes of 0 ≤ a ≤ 14 (relative error 2e-8). Beyond 14, Φ is 0 or 1.
ELAPID_INLINE vf normal_distribution(vf x, vf& density) {
  const vf a = min(abs(x), splat(14.0f));
  const vf g = gaussian(a);
  density = g * 0.3989422804f;
  const vf t = 1.0f / (a + 2.5f);
  const vf u = 1.0f - t * 5.0f;
  vf r = splat(-0.0001535079355f);
  r = r * u - 0.0003063026816f;
  r = r * u + 0.0006807514001f;
  r = r * u + 0.002518497873f;
  r = r * u - 0.001599738607f;
  r = r * u - 0.01638440602f;
  r = r * u + 0.009235725738f;
  r = r * u + 0.1319867820f;
  r = r * u - 0.4336920083f;
  r = r * u + 0.7066566348f;
  const vf tail = r * t * g;
  return x < vf{} ? tail : 1.0f - tail;
}

// x·Φ(x) within 6 units in the last place.
ELAPID_INLINE vf gelu(vf x) {
  vf density;
  return x * normal_distribution(x, density);
}

ELAPID_INLINE vf gelu_slope(vf x) {
  vf density;
  const vf value = normal_distribution(x, density);
  return value + (abs(x) > splat(14.0f) ? vf{} : x * density);
}

// x·sigmoid(2·√(2/π)·(x + 0.044715·x³)), which is ½·x·(1 + tanh(…)) without its cancellation.
ELAPID_INLINE vf gelu_tanh_argument(vf x) { return x * (1.5957691216f + x * x * 0.0713548162726f); }

ELAPID_INLINE vf gelu_tanh(vf x) { return x / (1.0f + exp(-gelu_tanh_argument(x))); }

ELAPID_INLINE vf gelu_tanh_slope(vf x) {
  const vf s = sigmoid(gelu_tanh_argument(x));
  const vf bend = x * s * (1.0f - s) * (1.5957691216f + x * x * 0.214064448818f);
  return s + (abs(x) > splat(14.0f) ? vf{} : bend);
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
