// Half precision as storage: vectors of kLanes are widened when they are read and rounded when they are written.
#pragma once
#include "simd.h"

namespace elapid {

// Bits of an IEEE 754 binary16.
struct half {
  uint16_t bits;
};

namespace ELAPID_TARGET {

typedef uint16_t halves __attribute__((vector_size(ELAPID_LANES * 2)));

ELAPID_INLINE vf widened(halves h) {
#if ELAPID_LANES == 16 && defined(__AVX512F__)
  typedef short shorts __attribute__((vector_size(32)));
  return __builtin_ia32_vcvtph2ps512_mask((shorts)h, vf{}, -1, 4);
#elif ELAPID_LANES == 8 && defined(__F16C__)
  typedef short shorts __attribute__((vector_size(16)));
  return __builtin_ia32_vcvtph2ps256((shorts)h);
#elif defined(__aarch64__)
  typedef __fp16 floats __attribute__((vector_size(8)));
  return __builtin_convertvector((floats)h, vf);
#else
  const vi bits = __builtin_convertvector(h, vi), magnitude = bits & 0x7fff;
  // Exponents move by 112; those of infinity and NaN are the largest in both formats. Below the least one numbers are multiples of 2^−24: threads take
  // float32's own numbers of that kind for zeros.
  const vi special = magnitude >= splat(31 << 10) ? splat(0x7f800000) : splat(0);
  const vi normal = ((magnitude << 13) + (112 << 23)) | special;
  const vi small = as_int(__builtin_convertvector(magnitude, vf) * splat(0x1p-24f));
  const vi found = magnitude < splat(1 << 10) ? small : normal;
  return as_float(found | (bits & 0x8000) << 16);
#endif
}

// To nearest, ties to even. What is larger than 65504 becomes that instead of infinite, and a NaN stays one.
ELAPID_INLINE halves narrowed(vf v) {
  const vf largest = splat(65504.0f), magnitude = abs(v);
  const vf bounded = magnitude > largest ? as_float(as_int(largest) | (as_int(v) & i32(0x80000000))) : v;
#if ELAPID_LANES == 16 && defined(__AVX512F__)
  typedef short shorts __attribute__((vector_size(32)));
  return (halves)__builtin_ia32_vcvtps2ph512_mask(bounded, 0, shorts{}, -1);
#elif ELAPID_LANES == 8 && defined(__F16C__)
  return (halves)__builtin_ia32_vcvtps2ph256(bounded, 0);
#elif defined(__aarch64__)
  typedef __fp16 floats __attribute__((vector_size(8)));
  return (halves)__builtin_convertvector(bounded, floats);
#else
  const vi bits = as_int(abs(bounded));
  const vi normal = (bits - (112 << 23) + 0xfff + (bits >> 13 & 1)) >> 13;
  // Numbers of the least exponent lie as far apart as those about ½ in float32.
  const vi small = as_int(abs(bounded) + splat(0.5f)) - as_int(splat(0.5f));
  const vi finite = bits < splat(113 << 23) ? small : normal;
  const vi found = bits > splat(0x7f800000) ? splat(0x7e00) : finite;
  return __builtin_convertvector(found | (as_int(bounded) >> 16 & 0x8000), halves);
#endif
}

ELAPID_INLINE vf load(const half* p) {
  halves h;
  __builtin_memcpy(&h, p, sizeof h);
  return widened(h);
}

ELAPID_INLINE vf load_first(const half* p, i64 n) {
  if (n >= kLanes) return load(p);
  half t[kLanes] = {};
  for (i64 i = 0; i < n; i++) t[i] = p[i];
  return load(t);
}

ELAPID_INLINE void store_first(half* p, vf v, i64 n) {
  const halves h = narrowed(v);
  __builtin_memcpy(p, &h, size_t(n < kLanes ? n : kLanes) * sizeof(half));
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
