// Cross-entropy of rows of logits, and what its fusion with the vocabulary projection needs besides matrix products.
#include "../../backend/cpu/native/kernel.h"
#include "../softmax/rows.h"

namespace elapid {
namespace ELAPID_TARGET {

constexpr i32 kIgnoredTarget = -1;

void counted_scale(const CountedScale& a, Pool&) {
  i64 counted = 0;
  for (i64 i = 0; i < a.count; i++) counted += a.targets[i] != kIgnoredTarget;
  a.scale[0] = counted == 0 ? 0.0f : 1.0f / float(counted);
}

ELAPID_INLINE float loss_of(const float* row, i32 target, i64 columns, float largest, float total) {
  if (target == kIgnoredTarget) return 0.0f;
  if (target < 0 || target >= columns) return __builtin_nanf("");
  // Two differences of numbers of one size: m + ln Σ as one number would lose the logarithm's digits to a large m.
  return log(total) - (row[target] - largest);
}

// Rows without a gradient: zeros for an ignored target, NaN for an impossible one. Returns whether this is one.
ELAPID_INLINE bool fill_without_gradient(float* row, i32 target, i64 columns) {
  if (target >= 0 && target < columns) return false;
  const float value = target == kIgnoredTarget ? 0.0f : __builtin_nanf("");
  for (i64 c = 0; c < columns; c++) row[c] = value;
  return true;
}

void token_losses(const TokenLosses& a, Pool& pool) {
  each_row(pool, a.rows, a.columns, [&](i64 r) {
    const float* row = a.logits + r * a.logitsPitch;
    float largest = 0.0f, total = 1.0f;
    if (a.targets[r] != kIgnoredTarget) {
      largest = row_max(row, a.columns);
      total = float(sum_exp(row, a.columns, largest));
    }
    a.losses[r] = loss_of(row, a.targets[r], a.columns, largest, total);
    if (a.normalisers == nullptr) return;
    a.normalisers[2 * r] = largest;
    a.normalisers[2 * r + 1] = total;
  });
}

void token_losses_backward(const TokenLossesBackward& a, Pool& pool) {
  const float factor = a.scale[0] * a.upstream[0];
  each_row(pool, a.rows, a.columns, [&](i64 r) {
    const float* row = a.logits + r * a.logitsPitch;
    float* out = a.dlogits + r * a.columns;
    if (fill_without_gradient(out, a.targets[r], a.columns)) return;
    const float largest = a.normalisers[2 * r], share = factor / a.normalisers[2 * r + 1];
    for (i64 c = 0; c < a.columns; c += kLanes) {
      const i64 n = a.columns - c;
      store_first(out + c, exp_shifted(load_first(row + c, n) - largest) * share, n);
    }
    out[a.targets[r]] -= factor;
  });
}

void token_losses_in_place(const TokenLossesInPlace& a, Pool& pool) {
  each_row(pool, a.rows, a.columns, [&](i64 r) {
    float* row = a.logits + r * a.columns;
    const i32 target = a.targets[r];
    if (fill_without_gradient(row, target, a.columns)) {
      a.losses[r] = target == kIgnoredTarget ? 0.0f : __builtin_nanf("");
      return;
    }
    const float largest = row_max(row, a.columns), logit = row[target];
    const double total = sum_pieces(a.columns, [&](i64 i, i64 n) {
      const vf e = exp_shifted(load_first(row + i, n, -__builtin_inff()) - largest);
      store_first(row + i, e, n);
      return e;
    });
    a.losses[r] = log(float(total)) - (logit - largest);
    const float share = float(1.0 / total);
    for (i64 c = 0; c < a.columns; c++) row[c] *= share;
    row[target] -= 1.0f;
  });
}

void scaled_sum(const ScaledSum& a, Pool&) {
  a.total[0] = float(double(a.scale[0]) * sum_pieces(a.count, [&](i64 i, i64 n) { return load_first(a.values + i, n); }));
}

void column_sums(const ColumnSums& a, Pool& pool) {
  // A task's columns fill whole cache lines of each row.
  const i64 width = 4 * kLanes;
  each_block(pool, ceil_div(a.columns, width), max(i64(1), kElementwiseGrain / max(a.rows * width, i64(1))), [&](i64 begin, i64 end) {
    for (i64 c = begin * width; c < min(end * width, a.columns); c += kLanes) {
      const i64 n = a.columns - c;
      vf s = a.accumulate ? load_first(a.y + c, n) : vf{};
      for (i64 r = 0; r < a.rows; r++) s += load_first(a.x + r * a.columns + c, n);
      store_first(a.y + c, s, n);
    }
  });
}

void multiply_in_place(const MultiplyInPlace& a, Pool& pool) {
  const float factor = a.factor[0] * a.scale[0];
  each_block(pool, a.count, kElementwiseGrain, [&](i64 begin, i64 end) {
    for (i64 i = begin; i < end; i++) a.values[i] *= factor;
  });
}

void scale_into(const ScaleInto& a, Pool& pool) {
  const float factor = a.factor[0] * a.scale[0];
  each_block(pool, a.count, kElementwiseGrain, [&](i64 begin, i64 end) {
    if (a.accumulate) {
      for (i64 i = begin; i < end; i++) a.sums[i] += factor * a.values[i];
    } else {
      for (i64 i = begin; i < end; i++) a.sums[i] = factor * a.values[i];
    }
  });
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
