// Rows of activations in 16 bits, for products with weights in integers.
#pragma once
#include "format.h"

namespace elapid {
namespace ELAPID_TARGET {

// Adding it rounds a float below 2²² to the nearest integer, ties to even; the sum's lower bits are that integer.
constexpr float kRounder = 12582912.0f;

// Rows in blocks of 32 inputs: a scale, the block's largest magnitude over 32767, and numbers −32767 … 32767. Two numbers that a
// lane multiplies together are a pair, in the order of `F::pair`; blocks are padded with zeros.
struct RoundedRows {
  i32* pairs;
  i64 pitch;
  float* scales;
  i64 scale_pitch;
  i64 blocks;
};

inline RoundedRows rounded_rows(void* space, i64 m, i64 depth) {
  const i64 blocks = ceil_div(depth, kBlockDepth), pitch = blocks * (kBlockDepth / 2);
  i32* pairs = static_cast<i32*>(space);
  return {pairs, pitch, reinterpret_cast<float*>(pairs + m * pitch), blocks, blocks};
}

constexpr i64 rounded_row_bytes(i64 depth) { return ceil_div(depth, kBlockDepth) * (2 * kBlockDepth + 4); }

// Rounds row m of `to`. A block with a number that is infinite or NaN gets the scale NaN; one below 2⁻⁹⁰ is zero.
template <class F>
void round_row(const float* x, i64 depth, const RoundedRows& to, i64 m) {
  for (i64 block = 0; block < to.blocks; block++) {
    const i64 first = block * kBlockDepth, count = min(depth - first, kBlockDepth);
    vf values[kBlockDepth / kLanes];
    vi magnitudes{};
    ELAPID_UNROLL
    for (int i = 0; i < kBlockDepth / kLanes; i++) {
      values[i] = i * kLanes < count ? load_first(x + first + i * kLanes, count - i * kLanes) : vf{};
      const vi magnitude = as_int(values[i]) & 0x7fffffff;
      magnitudes = magnitude > magnitudes ? magnitude : magnitudes;
    }
    i32 largest = 0, lanes[kLanes];
    __builtin_memcpy(lanes, &magnitudes, sizeof lanes);
    for (int i = 0; i < kLanes; i++) largest = lanes[i] > largest ? lanes[i] : largest;
    float maximum;
    __builtin_memcpy(&maximum, &largest, sizeof maximum);
    const bool broken = largest >= 0x7f800000, zero = !broken && maximum < 0x1p-90f;
    to.scales[m * to.scale_pitch + block] = broken ? __builtin_nanf("") : zero ? 0.0f : maximum * (1.0f / 32767.0f);
    const vf factor = splat(broken || zero ? 0.0f : 32767.0f / maximum);
    i32 numbers[kBlockDepth];
    ELAPID_UNROLL
    for (int i = 0; i < kBlockDepth / kLanes; i++) {
      const vi rounded = as_int(values[i] * factor + kRounder);
      __builtin_memcpy(numbers + i * kLanes, &rounded, sizeof rounded);
    }
    i32* pairs = to.pairs + m * to.pitch + block * (kBlockDepth / 2);
    constexpr int half = F::kPerWord / 2;
    ELAPID_UNROLL
    for (int k = 0; k < kBlockDepth / 2; k++) {
      const int lower = k / half * F::kPerWord + k % half;
      pairs[k] = (numbers[lower] & 0xffff) | i32(u32(numbers[lower + half]) << 16);
    }
  }
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
