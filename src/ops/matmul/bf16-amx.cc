// Products with AMX tiles: tdpbf16ps adds the product of 16 rows by 32 deep and 32 deep by 16 columns to 16×16 sums.
#define ELAPID_TARGET bf16amx
#define ELAPID_LANES 16
#include "bf16-multiply.h"

namespace elapid {
namespace ELAPID_TARGET {
namespace {

// Shapes of the eight tiles: all 16 rows of 64 bytes. Edges of C are multiplied with the zeros of the padding.
struct alignas(64) TileConfiguration {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfiguration) == 64);
constexpr TileConfiguration kConfiguration;

// The compilers' tile instructions do not say what memory they touch.
ELAPID_INLINE void memory_is_touched() { asm volatile("" ::: "memory"); }

// Two tiles of A by two of B: four tiles of sums (0–3), two of A (4, 5), two of B (6, 7). A step of depth loads 4 KiB in the
// 64 cycles that its four products take.
struct Amx {
  static constexpr int kRows = 32;
  static constexpr i64 kDepthSteps = 16, kOwnBytes = 800 << 10;

  static void begin() { _tile_loadconfig(&kConfiguration); }
  static void end() { _tile_release(); }

  // Products of Low or both halves of the rows (Rows = 1, 2 tiles) and columns (Columns likewise).
  template <int Rows, int Columns>
  static ELAPID_INLINE void multiply(i64 steps, const uint16_t* a, const uint16_t* b, i64 next, const Output& to) {
    constexpr i64 kTile = 16 * kStep;
    for (i64 s = 0; s < steps; s++) {
      // C is fetched a few rows a step, not all at once in front of the first tiles, and into the second level: its rows are
      // often some multiple of 4 KiB apart, and 32 of them would evict one another, and A and B, from the first.
      if (s < 8) {
        for (int i = 0; i < 2 * Rows; i++) {
          const float* c = to.c + (2 * Rows * s + i) * to.ldc;
          __builtin_prefetch(c, 0, 2);
          if (Columns == 2) __builtin_prefetch(c + 16, 0, 2);
        }
      }
      _tile_loadd(6, b, 64);
      _tile_loadd(4, a, 64);
      _tile_dpbf16ps(0, 4, 6);
      if constexpr (Columns == 2) {
        _tile_loadd(7, b + next, 64);
        _tile_dpbf16ps(1, 4, 7);
      }
      if constexpr (Rows == 2) {
        _tile_loadd(5, a + kTile, 64);
        _tile_dpbf16ps(2, 5, 6);
        if constexpr (Columns == 2) _tile_dpbf16ps(3, 5, 7);
      }
      a += kRows * kStep;
      b += kTile;
    }
  }

  // The first sums: zero, bias in every row (a stride of zero repeats one), or what is in C.
  template <int Rows, int Columns>
  static ELAPID_INLINE void start(const float* from, i64 pitch) {
    if (from == nullptr) {
      _tile_zero(0);
      if constexpr (Columns == 2) _tile_zero(1);
      if constexpr (Rows == 2) _tile_zero(2);
      if constexpr (Rows == 2 && Columns == 2) _tile_zero(3);
      return;
    }
    const i64 bytes = pitch * i64(sizeof(float));
    _tile_loadd(0, from, bytes);
    if constexpr (Columns == 2) _tile_loadd(1, from + 16, bytes);
    if constexpr (Rows == 2) _tile_loadd(2, from + 16 * pitch, bytes);
    if constexpr (Rows == 2 && Columns == 2) _tile_loadd(3, from + 16 * pitch + 16, bytes);
  }

  template <int Rows, int Columns>
  static ELAPID_INLINE void finish(float* c, i64 pitch) {
    const i64 bytes = pitch * i64(sizeof(float));
    _tile_stored(0, c, bytes);
    if constexpr (Columns == 2) _tile_stored(1, c + 16, bytes);
    if constexpr (Rows == 2) _tile_stored(2, c + 16 * pitch, bytes);
    if constexpr (Rows == 2 && Columns == 2) _tile_stored(3, c + 16 * pitch + 16, bytes);
  }

  // Tiles that C has no room for, or that need two additions, go through memory of their own.
  static __attribute__((noinline)) void add_edge(const float* sums, i64 rows, i64 columns, const Output& to) {
    for (i64 j = 0; j < columns; j += 16) {
      const __mmask16 mask = first_lanes(columns - j);
      const __m512 bias = to.bias == nullptr ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(mask, to.bias + j);
      for (i64 i = 0; i < rows; i++) {
        float* c = to.c + i * to.ldc + j;
        __m512 sum = _mm512_add_ps(_mm512_load_ps(sums + i * kColumns + j), bias);
        if (to.add) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, c));
        _mm512_mask_storeu_ps(c, mask, sum);
      }
    }
  }

  template <int Rows, int Columns>
  static void tile_of(i64 steps, const uint16_t* a, const uint16_t* b, i64 next, i64 rows, i64 columns, const Output& to) {
    memory_is_touched();
    if (rows == 16 * Rows && columns == 16 * Columns && !(to.add && to.bias != nullptr)) {
      start<Rows, Columns>(to.add ? to.c : to.bias, to.add ? to.ldc : 0);
      multiply<Rows, Columns>(steps, a, b, next, to);
      finish<Rows, Columns>(to.c, to.ldc);
    } else {
      alignas(64) float sums[kRows * kColumns];
      start<Rows, Columns>(nullptr, 0);
      multiply<Rows, Columns>(steps, a, b, next, to);
      finish<Rows, Columns>(sums, kColumns);
      memory_is_touched();
      add_edge(sums, rows, columns, to);
    }
    memory_is_touched();
  }

  static void tile(i64 steps, const uint16_t* a, const uint16_t* b, i64 next, i64 rows, i64 columns, const Output& to) {
    if (rows > 16) {
      if (columns > 16) tile_of<2, 2>(steps, a, b, next, rows, columns, to);
      else tile_of<2, 1>(steps, a, b, next, rows, columns, to);
    } else {
      if (columns > 16) tile_of<1, 2>(steps, a, b, next, rows, columns, to);
      else tile_of<1, 1>(steps, a, b, next, rows, columns, to);
    }
  }
};

}  // namespace
}  // namespace ELAPID_TARGET

extern const Bf16Kernels bf16_amx;
const Bf16Kernels bf16_amx = ELAPID_TARGET::unit_kernels<ELAPID_TARGET::Amx>("AMX");

}  // namespace elapid
