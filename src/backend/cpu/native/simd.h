// The SIMD layer: vectors of `kLanes` floats through the compilers' vector extensions, so that one source serves SSE2,
// AVX2, AVX-512, NEON and wasm SIMD128. Kernels include this file and nothing of the standard library: the wasm build has
// none, and inline library functions compiled for AVX-512 must never be linked into the baseline path.
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifndef ELAPID_LANES
#error "ELAPID_LANES: floats per vector, set by the build (4, 8 or 16)"
#endif

namespace elapid {

using i64 = int64_t;
using i32 = int32_t;
using u32 = uint32_t;

namespace ELAPID_TARGET {

constexpr int kLanes = ELAPID_LANES;

typedef float vf __attribute__((vector_size(ELAPID_LANES * 4)));
typedef i32 vi __attribute__((vector_size(ELAPID_LANES * 4)));

#define ELAPID_INLINE inline __attribute__((always_inline))

ELAPID_INLINE vf load(const float* p) {
  vf v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

ELAPID_INLINE void store(float* p, vf v) { __builtin_memcpy(p, &v, sizeof v); }

ELAPID_INLINE vf splat(float x) { return x - vf{}; }

ELAPID_INLINE vi splat(i32 x) { return x - vi{}; }

// The first n lanes from memory, `fill` in the others. n may be kLanes or more.
ELAPID_INLINE vf load_first(const float* p, i64 n, float fill = 0.0f) {
  if (n >= kLanes) return load(p);
  float t[kLanes];
  for (int i = 0; i < kLanes; i++) t[i] = i < n ? p[i] : fill;
  return load(t);
}

ELAPID_INLINE void store_first(float* p, vf v, i64 n) {
  if (n >= kLanes) return store(p, v);
  float t[kLanes];
  store(t, v);
  for (int i = 0; i < n; i++) p[i] = t[i];
}

ELAPID_INLINE vf min(vf a, vf b) { return a < b ? a : b; }
ELAPID_INLINE vf max(vf a, vf b) { return a > b ? a : b; }
ELAPID_INLINE float min(float a, float b) { return a < b ? a : b; }
ELAPID_INLINE float max(float a, float b) { return a > b ? a : b; }
ELAPID_INLINE i64 min(i64 a, i64 b) { return a < b ? a : b; }
ELAPID_INLINE i64 max(i64 a, i64 b) { return a > b ? a : b; }

// Sum of the lanes, pairwise.
ELAPID_INLINE float sum(vf v) {
  float t[kLanes];
  store(t, v);
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; i++) t[i] += t[i + width];
  return t[0];
}

ELAPID_INLINE float largest(vf v) {
  float t[kLanes];
  store(t, v);
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; i++) t[i] = max(t[i], t[i + width]);
  return t[0];
}

ELAPID_INLINE vf as_float(vi v) {
  vf r;
  __builtin_memcpy(&r, &v, sizeof r);
  return r;
}

ELAPID_INLINE vi as_int(vf v) {
  vi r;
  __builtin_memcpy(&r, &v, sizeof r);
  return r;
}

ELAPID_INLINE vf abs(vf v) { return as_float(as_int(v) & 0x7fffffff); }

ELAPID_INLINE i64 ceil_div(i64 a, i64 b) { return (a + b - 1) / b; }

// Calls f(i, n) for vectors [i, i + n) of [0, count): full ones with a constant n, so that their loads are plain.
template <class F>
ELAPID_INLINE void each_vector_of(i64 count, F f) {
  i64 i = 0;
  for (; i + kLanes <= count; i += kLanes) f(i, i64(kLanes));
  if (i < count) f(i, count - i);
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
