// Weights packed in bfloat16: their layout, and the product with them.
#pragma once
#include "../../backend/cpu/native/pool.h"
#include "../../backend/cpu/native/simd.h"

namespace elapid {
namespace ELAPID_TARGET {

// W [N, K] is packed as [N/16][K/2][16][2]: for 16 outputs, the pairs of inputs one after the other, N padded to a multiple
// of 16 and K to one of 32, with zeros. 16 pairs of 16 outputs are a tile of AMX, 1 KiB long, and one pair of 16 outputs is
// an operand of vdpbf16ps; with fewer than 16 lanes, any aligned group of lanes of a row is what one vector takes.
constexpr i64 kPackedColumns = 16, kPackedDepth = 32;

// Depth of packed weights with K inputs.
constexpr i64 packed_bf16_depth(i64 k) { return (k + kPackedDepth - 1) / kPackedDepth * kPackedDepth; }

// Elements (16 bits each) that W [n, k] takes.
constexpr i64 packed_bf16_size(i64 n, i64 k) {
  return (n + kPackedColumns - 1) / kPackedColumns * kPackedColumns * packed_bf16_depth(k);
}

// Where W[row, column] of a W with k columns lies among them.
constexpr i64 packed_bf16_index(i64 row, i64 column, i64 k) {
  return (row / kPackedColumns * (packed_bf16_depth(k) / 2) + column / 2) * (2 * kPackedColumns) + row % kPackedColumns * 2 +
         column % 2;
}

// c[m, n] = Σ_k x[m, k]·W[n, k] + bias[n] for W [n, k] packed as above, 64-byte aligned; bias may be null. x is rounded to
// bfloat16, sums are float32. For many rows: a product of a few reads its weights no faster than memory gives them, and is
// better served by a kernel that keeps x in registers. Runs tasks on the pool and uses all of its scratch memory: call it
// from a kernel, not from a task.
void multiply_packed_bf16(const float* x, i64 x_pitch, const uint16_t* packed, i64 m, i64 n, i64 k, const float* bias, float* c,
                          i64 c_pitch, Pool& pool);

}  // namespace ELAPID_TARGET
}  // namespace elapid
