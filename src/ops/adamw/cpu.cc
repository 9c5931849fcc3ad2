// The optimiser's passes over all parameters at once: memory-bound.
#include "../../backend/cpu/native/kernel.h"

namespace elapid {
namespace ELAPID_TARGET {

template <bool kDecays>
ELAPID_INLINE void adamw_range(const AdamwStep& a, float gradient_scale, i64 begin, i64 end) {
  for (i64 i = begin; i < end; i += kLanes) {
    const i64 n = end - i;
    const vf g = load_first(a.gradients + i, n) * gradient_scale;
    const vf m = load_first(a.firstMoments + i, n) * a.beta1 + g * a.beta1Complement;
    const vf v = load_first(a.secondMoments + i, n) * a.beta2 + g * g * a.beta2Complement;
    const vf p = load_first(a.parameters + i, n);
    vf step = m * a.stepSize / (sqrt(v) * a.rootScale + a.epsilon);
    // Subtracted, not multiplied in as 1 − decay: that factor has no digits left for a decay of 10⁻⁶ a step.
    if (kDecays) step += p * a.decay;
    store_first(a.firstMoments + i, m, n);
    store_first(a.secondMoments + i, v, n);
    store_first(a.parameters + i, p - step, n);
  }
}

void adamw_step(const AdamwStep& a, Pool& pool) {
  float gradient_scale = a.gradientScale;
  if (a.gradientNorm != nullptr) {
    const float norm = a.gradientNorm[0];
    if (!(norm - norm == 0.0f)) return;  // ±∞ or NaN
    gradient_scale *= min(1.0f, a.maxGradientNorm / (norm + 1e-6f));
  }
  each_block(pool, a.count, kElementwiseGrain, [&](i64 begin, i64 end) {
    const i64 border = max(begin, min(end, a.decayCount));
    adamw_range<true>(a, gradient_scale, begin, border);
    adamw_range<false>(a, gradient_scale, border, end);
  });
}

constexpr int kHalfLanes = kLanes / 2;
typedef float half_vf __attribute__((vector_size(kHalfLanes * 4)));
typedef double vd __attribute__((vector_size(kHalfLanes * 8)));

ELAPID_INLINE vd square_in_double(const float* p) {
  half_vf x;
  __builtin_memcpy(&x, p, sizeof x);
  const vd wide = __builtin_convertvector(x, vd);
  return wide * wide;
}

// Σ x² in double: the square of a float is exact there, and nothing overflows or underflows.
ELAPID_INLINE double sum_of_squares(const float* x, i64 count) {
  vd s0{}, s1{}, s2{}, s3{};
  i64 i = 0;
  for (; i + 4 * kHalfLanes <= count; i += 4 * kHalfLanes) {
    s0 += square_in_double(x + i);
    s1 += square_in_double(x + i + kHalfLanes);
    s2 += square_in_double(x + i + 2 * kHalfLanes);
    s3 += square_in_double(x + i + 3 * kHalfLanes);
  }
  s0 += s1;
  s2 += s3;
  s0 += s2;
  double total = 0;
  for (int lane = 0; lane < kHalfLanes; lane++) total += s0[lane];
  for (; i < count; i++) total += double(x[i]) * double(x[i]);
  return total;
}

void global_norm(const GlobalNorm& a, Pool& pool) {
  // Blocks depend on the count alone, so the sum does not depend on the threads.
  constexpr i64 kMostBlocks = i64(kSharedScratchBytes / sizeof(double));
  const i64 block = max(kElementwiseGrain, ceil_div(a.count, kMostBlocks));
  const i64 blocks = ceil_div(a.count, block);
  double* partial = pool.shared<double>();
  pool.each(blocks, [&](i64 task, int) {
    partial[task] = sum_of_squares(a.x + task * block, min(block, a.count - task * block));
  });
  double total = 0;
  for (i64 task = 0; task < blocks; task++) total += partial[task];
  a.norm[0] = float(double(a.scale) * __builtin_sqrt(total));
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
