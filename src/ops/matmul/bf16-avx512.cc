// Products with vdpbf16ps, which adds the products of pairs of bfloat16 to 16 sums.
#define ELAPID_TARGET bf16avx512
#define ELAPID_LANES 16
#include "bf16-multiply.h"

namespace elapid {
namespace ELAPID_TARGET {
namespace {

// A list of row counts.
template <int...>
struct Rows {};

// 14 rows of 32 columns are 28 registers of sums; two more hold a row of B, one an element of A.
struct Avx512 {
  static constexpr int kRows = 14;
  static constexpr i64 kDepthSteps = 12, kOwnBytes = 400 << 10;
  static void begin() {}
  static void end() {}

  template <int R, int V>
  static void tile_of(i64 steps, const uint16_t* a, const uint16_t* b, i64 next, i64 columns, const Output& to) {
    __m512 sums[R][V];
    ELAPID_UNROLL
    for (int i = 0; i < R; i++) {
      ELAPID_UNROLL
      for (int j = 0; j < V; j++) {
        sums[i][j] = _mm512_setzero_ps();
        __builtin_prefetch(to.c + i * to.ldc + j * 16);
      }
    }
    for (i64 s = 0; s < steps; s++) {
      for (int pair = 0; pair < 16; pair++) {
        __m512bh row[V];
        ELAPID_UNROLL
        for (int j = 0; j < V; j++) row[j] = (__m512bh)_mm512_load_si512(b + j * next);
        ELAPID_UNROLL
        for (int i = 0; i < R; i++) {
          i32 element;
          __builtin_memcpy(&element, a + i * kStep, sizeof element);
          ELAPID_UNROLL
          for (int j = 0; j < V; j++) sums[i][j] = _mm512_dpbf16_ps(sums[i][j], (__m512bh)_mm512_set1_epi32(element), row[j]);
        }
        a += 2;
        b += kStep;
      }
      a += (kRows - 1) * kStep;
    }
    ELAPID_UNROLL
    for (int j = 0; j < V; j++) {
      const __mmask16 mask = first_lanes(columns - j * 16);
      const __m512 bias = to.bias == nullptr ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(mask, to.bias + j * 16);
      ELAPID_UNROLL
      for (int i = 0; i < R; i++) {
        float* c = to.c + i * to.ldc + j * 16;
        __m512 sum = sums[i][j];
        if (to.bias != nullptr) sum = _mm512_add_ps(sum, bias);
        if (to.add) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, c));
        _mm512_mask_storeu_ps(c, mask, sum);
      }
    }
  }

  using Tile = void (*)(i64, const uint16_t*, const uint16_t*, i64, i64, const Output&);

  template <int... R>
  static Tile pick(i64 rows, bool wide, Rows<R...>) {
    static constexpr Tile narrow_tiles[] = {tile_of<R + 1, 1>...}, wide_tiles[] = {tile_of<R + 1, 2>...};
    return (wide ? wide_tiles : narrow_tiles)[rows - 1];
  }

  static void tile(i64 steps, const uint16_t* a, const uint16_t* b, i64 next, i64 rows, i64 columns, const Output& to) {
    pick(rows, columns > 16, Rows<0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13>{})(steps, a, b, next, columns, to);
  }
};

}  // namespace
}  // namespace ELAPID_TARGET

extern const Bf16Kernels bf16_avx512;
const Bf16Kernels bf16_avx512 = ELAPID_TARGET::unit_kernels<ELAPID_TARGET::Avx512>("AVX512-BF16");

}  // namespace elapid
