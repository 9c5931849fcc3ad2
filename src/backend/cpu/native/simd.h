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
using u8 = uint8_t;

namespace ELAPID_TARGET {

constexpr int kLanes = ELAPID_LANES;

typedef float vf __attribute__((vector_size(ELAPID_LANES * 4)));
typedef i32 vi __attribute__((vector_size(ELAPID_LANES * 4)));

#define ELAPID_INLINE inline __attribute__((always_inline))
// Loops that must not share registers with their callers.
#define ELAPID_NOINLINE __attribute__((noinline))

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

// a < b ? a : b and a > b ? a : b: b where either is NaN. gcc does not turn the comparison into the one instruction that
// does the same.
#if ELAPID_LANES == 4 && defined(__SSE2__)
ELAPID_INLINE vf min(vf a, vf b) { return __builtin_ia32_minps(a, b); }
ELAPID_INLINE vf max(vf a, vf b) { return __builtin_ia32_maxps(a, b); }
#elif ELAPID_LANES == 8 && defined(__AVX__)
ELAPID_INLINE vf min(vf a, vf b) { return __builtin_ia32_minps256(a, b); }
ELAPID_INLINE vf max(vf a, vf b) { return __builtin_ia32_maxps256(a, b); }
#elif ELAPID_LANES == 16 && defined(__AVX512F__) && !defined(__clang__)
ELAPID_INLINE vf min(vf a, vf b) { return __builtin_ia32_minps512_mask(a, b, a, -1, 4); }
ELAPID_INLINE vf max(vf a, vf b) { return __builtin_ia32_maxps512_mask(a, b, a, -1, 4); }
#else
ELAPID_INLINE vf min(vf a, vf b) { return a < b ? a : b; }
ELAPID_INLINE vf max(vf a, vf b) { return a > b ? a : b; }
#endif
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

// Unrolls the following loop completely; its bounds are compile-time constants (at most 32 rounds). gcc gives up on larger
// bodies by itself, and then keeps arrays of vectors in memory.
#if defined(__clang__)
#define ELAPID_UNROLL _Pragma("clang loop unroll(full)")
#else
#define ELAPID_UNROLL _Pragma("GCC unroll 32")
#endif

// Lanes of a and b in turn, a₀ b₀ a₁ b₁ …, from their lower or upper halves. (gcc before 12 lacks __builtin_shufflevector.)
#if defined(__clang__)
#define ELAPID_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define ELAPID_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, vi{__VA_ARGS__})
#endif
ELAPID_INLINE vf interleave_lower(vf a, vf b) {
#if ELAPID_LANES == 4
  return ELAPID_SHUFFLE(a, b, 0, 4, 1, 5);
#elif ELAPID_LANES == 8
  return ELAPID_SHUFFLE(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
#else
  return ELAPID_SHUFFLE(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
#endif
}
ELAPID_INLINE vf interleave_upper(vf a, vf b) {
#if ELAPID_LANES == 4
  return ELAPID_SHUFFLE(a, b, 2, 6, 3, 7);
#elif ELAPID_LANES == 8
  return ELAPID_SHUFFLE(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
#else
  return ELAPID_SHUFFLE(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#endif
}

// Transposes kLanes vectors as a square matrix: each round interleaves vectors half the square apart.
ELAPID_INLINE void transpose(vf (&x)[kLanes]) {
  ELAPID_UNROLL
  for (int round = 1; round < kLanes; round *= 2) {
    vf y[kLanes];
    ELAPID_UNROLL
    for (int i = 0; i < kLanes / 2; i++) {
      y[2 * i] = interleave_lower(x[i], x[i + kLanes / 2]);
      y[2 * i + 1] = interleave_upper(x[i], x[i + kLanes / 2]);
    }
    ELAPID_UNROLL
    for (int i = 0; i < kLanes; i++) x[i] = y[i];
  }
}

// The sum of the lanes of x[i] in lane i: as `transpose`, with the two interleaved vectors added. Destroys x.
ELAPID_INLINE vf sums(vf (&x)[kLanes]) {
  ELAPID_UNROLL
  for (int count = kLanes / 2; count > 0; count /= 2) {
    ELAPID_UNROLL
    for (int i = 0; i < count; i++) x[i] = interleave_lower(x[i], x[i + count]) + interleave_upper(x[i], x[i + count]);
  }
  return x[0];
}

ELAPID_INLINE constexpr i64 ceil_div(i64 a, i64 b) { return (a + b - 1) / b; }

// Calls f(i, n) for vectors [i, i + n) of [0, count): full ones with a constant n, so that their loads are plain.
template <class F>
ELAPID_INLINE void each_vector_of(i64 count, F f) {
  i64 i = 0;
  for (; i + kLanes <= count; i += kLanes) f(i, i64(kLanes));
  if (i < count) f(i, count - i);
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
