// The gated RMS norm. A part of a row is read from memory once; what is gated is worked out again in the second pass, from the first-level cache.
#include "../../backend/cpu/native/kernel.h"
#include "../rms-norm/normalize.h"
#include "../selective-scan/scan-math.h"

namespace elapid {
namespace ELAPID_TARGET {

void gated_rms_norm(const GatedRmsNorm& a, Pool& pool) {
  const i64 size = a.columns / a.groups;
  each_row(pool, a.rows, 4 * a.columns, [&](i64 r) {
    for (i64 group = 0; group < a.groups; group++) {
      const i64 first = group * size;
      const float *const x = a.x + r * a.xPitch + first, *const z = a.z + r * a.zPitch + first, *const weight = a.weight + first;
      float* const y = a.y + r * a.columns + first;
      float total;
      sum_vectors<1>(size, &total, [&](i64 i, i64 n, vf* s) {
        vf value = load_first(x + i, n);
        if (!a.normFirst) {
          const vf gate = load_first(z + i, n);
          value *= gate * fast_sigmoid(gate);
          store_first(y + i, value, n);
        }
        s[0] += value * value;
      });
      const float scale = 1.0f / __builtin_sqrtf(total / float(size) + a.epsilon);
      if (a.statistics != nullptr) a.statistics[r * a.groups + group] = scale;
      each_vector_of(size, [&](i64 i, i64 n) {
        vf value = load_first(a.normFirst ? x + i : y + i, n) * scale * load_first(weight + i, n);
        if (a.normFirst) {
          const vf gate = load_first(z + i, n);
          value *= gate * fast_sigmoid(gate);
        }
        store_first(y + i, value, n);
      });
    }
  });
}

// One part of a row, and its share of the weight's gradient.
inline void gated_part_backward(const GatedRmsNormBackward& a, i64 r, i64 group, float* dweight) {
  const i64 size = a.columns / a.groups, first = group * size, to = r * a.columns + first;
  const float *const x = a.x + r * a.xPitch + first, *const z = a.z + r * a.zPitch + first, *const weight = a.weight + first;
  const float* const dy = a.dy + r * a.dyPitch + first;
  const vf scale = splat(a.statistics[r * a.groups + group]);
  float mean;
  sum_vectors<1>(size, &mean, [&](i64 i, i64 n, vf* s) {
    const vf gate = load_first(z + i, n), silu = gate * fast_sigmoid(gate);
    const vf product = load_first(dy + i, n) * silu * load_first(x + i, n) * scale;
    if (dweight != nullptr) store_first(dweight + first + i, load_first(dweight + first + i, n) + product, n);
    s[0] += product * load_first(weight + i, n);
  });
  mean /= float(size);
  each_vector_of(size, [&](i64 i, i64 n) {
    const vf gate = load_first(z + i, n), sigmoid = fast_sigmoid(gate), silu = gate * sigmoid, slope = sigmoid * (1.0f + gate * (1.0f - sigmoid));
    const vf value = load_first(x + i, n), by_weight = load_first(dy + i, n) * load_first(weight + i, n);
    if (a.normFirst) {
      const vf normal = value * scale;
      if (a.dx != nullptr) store_first(a.dx + to + i, scale * (by_weight * silu - normal * mean), n);
      if (a.dz != nullptr) store_first(a.dz + to + i, by_weight * normal * slope, n);
    } else {
      const vf d = scale * (by_weight - value * silu * scale * mean);
      if (a.dx != nullptr) store_first(a.dx + to + i, d * silu, n);
      if (a.dz != nullptr) store_first(a.dz + to + i, d * value * slope, n);
    }
  });
}

// Rows are cut into `blocks` runs, the same for any number of threads, as in the other norms.
void gated_rms_norm_backward(const GatedRmsNormBackward& a, Pool& pool) {
  const i64 blocks = max(a.blocks, i64(1)), rows = ceil_div(a.rows, blocks);
  pool.each(blocks, [&](i64 block, int) {
    float* const partial = a.dweight == nullptr ? nullptr : a.partials + block * a.columns;
    for (i64 c = 0; partial != nullptr && c < a.columns; c++) partial[c] = 0.0f;
    for (i64 r = block * rows; r < min((block + 1) * rows, a.rows); r++)
      for (i64 group = 0; group < a.groups; group++) gated_part_backward(a, r, group, partial);
  });
  if (a.dweight != nullptr) sum_partials(a.partials, blocks, a.columns, a.columns, a.dweight, pool);
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
