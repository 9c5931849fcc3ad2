// The formats of packed weights: how a line of 64 bytes, a word of four bytes for each of 16 outputs, becomes numbers.
// The README has the layout.
#pragma once
#include "../../backend/cpu/native/simd.h"

namespace elapid {
namespace ELAPID_TARGET {

constexpr i64 kPanelRows = 16, kBlockDepth = 32;
// 16 outputs are this many vectors.
constexpr int kParts = int(kPanelRows) / kLanes;

struct Vector16 {
  vf part[kParts];
};

ELAPID_INLINE vi load_words(const u8* p) {
  vi v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

// Keeps words in a register: compilers would rather load a line again for each of its numbers.
ELAPID_INLINE vi kept(vi words) {
#if defined(__AVX512F__)
  asm("" : "+v"(words));
#elif defined(__x86_64__)
  asm("" : "+x"(words));
#endif
  return words;
}

ELAPID_INLINE void store_words(u8* p, vi v) { __builtin_memcpy(p, &v, sizeof v); }

// Scales of kLanes outputs, from bfloat16.
ELAPID_INLINE vf load_scales(const u8* p) {
  typedef uint16_t vh __attribute__((vector_size(ELAPID_LANES * 2)));
  vh halves;
  __builtin_memcpy(&halves, p, sizeof halves);
  return as_float(__builtin_convertvector(halves, vi) << 16);
}

ELAPID_INLINE void store_scales(u8* p, vi upper_halves) {
  typedef uint16_t vh __attribute__((vector_size(ELAPID_LANES * 2)));
  const vh halves = __builtin_convertvector(upper_halves, vh);
  __builtin_memcpy(p, &halves, sizeof halves);
}

// The upper halves of floats rounded to nearest, ties to even, in the lower bits; a NaN stays one.
ELAPID_INLINE vi upper_half(vf x) {
  const vi bits = as_int(x);
  const vi rounded = ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) & 0xffff;
  return (bits & 0x7fffffff) > 0x7f800000 ? ((bits >> 16) & 0xffff) | 0x40 : rounded;
}

// What int4's codes −8 … 7 stand for, in units of a block's scale.
constexpr int int4_value(int code) { return code * (160 + code * code); }

#if ELAPID_LANES == 16 && !defined(__clang__)
// By the lower four bits of a lane: the codes 0 … 7, then −8 … −1.
#define ELAPID_INT4_TABLE 1
#else
#define ELAPID_INT4_TABLE 0
#endif

// The sum of two products of 16-bit numbers in each lane: of the lower halves, and of the upper ones.
ELAPID_INLINE vi dot_pairs(vi a, vi b) {
  typedef int16_t vs __attribute__((vector_size(ELAPID_LANES * 4)));
#if ELAPID_LANES == 16 && defined(__AVX512BW__) && defined(__clang__)
  return vi(__builtin_ia32_pmaddwd512(vs(a), vs(b)));
#elif ELAPID_LANES == 16 && defined(__AVX512BW__)
  return vi(__builtin_ia32_pmaddwd512_mask(vs(a), vs(b), vi{}, -1));
#elif ELAPID_LANES == 8 && defined(__AVX2__)
  return vi(__builtin_ia32_pmaddwd256(vs(a), vs(b)));
#elif ELAPID_LANES == 4 && defined(__SSE2__)
  return vi(__builtin_ia32_pmaddwd128(vs(a), vs(b)));
#elif defined(__wasm_simd128__)
  return vi(__builtin_wasm_dot_s_i32x4_i16x8(vs(a), vs(b)));
#else
  return ((a << 16) >> 16) * ((b << 16) >> 16) + (a >> 16) * (b >> 16);
#endif
}

// Both halves of each lane by themselves: shifted left, then right with their sign.
template <int Left, int Right>
ELAPID_INLINE vi shift_halves(vi v) {
  typedef int16_t vs __attribute__((vector_size(ELAPID_LANES * 4)));
  return vi((vs(v) << Left) >> Right);
}

struct Bf16Format {
  static constexpr i64 kUnitDepth = kBlockDepth, kUnitBytes = 1024;
  static constexpr int kPerWord = 2;
  static constexpr bool kScaled = false;

  // Number j of each word, in units of the scale.
  static ELAPID_INLINE vf decode(vi words, int j) { return as_float(j == 0 ? words << 16 : words & i32(0xffff0000)); }
};

struct Int8Format {
  static constexpr i64 kUnitDepth = 2 * kBlockDepth, kUnitBytes = 64 + 1024;
  static constexpr int kPerWord = 4;
  static constexpr bool kScaled = true;

  static ELAPID_INLINE vf decode(vi words, int j) { return __builtin_convertvector((words << (24 - 8 * j)) >> 24, vf); }

  // Codes J (lower half) and J + 2 (upper half) of each word, in 16 bits.
  template <int J>
  static ELAPID_INLINE vi pair(vi words) { return shift_halves<J == 0 ? 8 : 0, 8>(words); }
};

struct Int4Format {
  static constexpr i64 kUnitDepth = 2 * kBlockDepth, kUnitBytes = 64 + 512;
  static constexpr int kPerWord = 8;
  static constexpr bool kScaled = true;

  static ELAPID_INLINE vf decode(vi words, int j) {
#if ELAPID_INT4_TABLE
    constexpr auto value = [](int code) { return float(int4_value(code)); };
    const vf table = {value(0),  value(1),  value(2),  value(3),  value(4),  value(5),  value(6),  value(7),
                      value(-8), value(-7), value(-6), value(-5), value(-4), value(-3), value(-2), value(-1)};
    return __builtin_ia32_permvarsf512_mask(table, words >> (4 * j), table, -1);
#else
    const vf code = __builtin_convertvector((words << (28 - 4 * j)) >> 28, vf);
    return code * (code * code + 160.0f);
#endif
  }

  // What codes J (lower half) and J + 4 (upper half) of each word stand for, in 16 bits.
  template <int J>
  static ELAPID_INLINE vi pair(vi words) {
#if ELAPID_LANES == 16 && defined(__AVX512BW__) && !defined(__clang__)
    // The permutation looks at five bits of an index, one of them the next code's: the table is there twice.
    constexpr auto value = [](int i) { return int16_t(int4_value((i & 7) - (i & 8))); };
    typedef int16_t vs __attribute__((vector_size(64)));
    const vs table = {value(0), value(1), value(2),  value(3),  value(4),  value(5),  value(6),  value(7),
                      value(8), value(9), value(10), value(11), value(12), value(13), value(14), value(15),
                      value(0), value(1), value(2),  value(3),  value(4),  value(5),  value(6),  value(7),
                      value(8), value(9), value(10), value(11), value(12), value(13), value(14), value(15)};
    return vi(__builtin_ia32_permvarhi512_mask(table, vs(J == 0 ? words : words >> (4 * J)), table, -1));
#else
    typedef int16_t vs __attribute__((vector_size(ELAPID_LANES * 4)));
    const vs code = vs(shift_halves<12 - 4 * J, 12>(words));
    return vi(vs(code * (code * code + int16_t(160))));
#endif
  }
};

// Where in a unit the lines begin: after the scales of two blocks, which are a line.
template <class F>
constexpr i64 kLines = F::kScaled ? 64 : 0;

template <class F>
ELAPID_INLINE constexpr i64 panel_bytes(i64 depth) { return ceil_div(depth, F::kUnitDepth) * F::kUnitBytes; }

}  // namespace ELAPID_TARGET
}  // namespace elapid
