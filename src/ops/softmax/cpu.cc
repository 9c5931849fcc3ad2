// Softmax over rows.
#include "../../backend/cpu/native/kernel.h"
#include "rows.h"

namespace elapid {
namespace ELAPID_TARGET {

void softmax(const Softmax& a, Pool& pool) {
  each_row(pool, a.rows, a.columns, [&](i64 r) {
    const float* x = a.x + r * a.xPitch;
    float* y = a.y + r * a.columns;
    const float largest = row_max(x, a.columns);
    const double total = sum_pieces(a.columns, [&](i64 i, i64 n) {
      const vf e = exp_shifted(load_first(x + i, n, -__builtin_inff()) - largest);
      store_first(y + i, e, n);
      return e;
    });
    const float factor = float(1.0 / total);
    for (i64 c = 0; c < a.columns; c++) y[c] *= factor;
  });
}

void softmax_backward(const SoftmaxBackward& a, Pool& pool) {
  each_row(pool, a.rows, a.columns, [&](i64 r) {
    const float* y = a.y + r * a.columns;
    const float* dy = a.dy + r * a.dyPitch;
    float* dx = a.dx + r * a.columns;
    const float mean = float(sum_pieces(a.columns, [&](i64 i, i64 n) { return load_first(y + i, n) * load_first(dy + i, n); }));
    for (i64 c = 0; c < a.columns; c++) dx[c] = y[c] * (dy[c] - mean);
  });
}

void log_softmax(const LogSoftmax& a, Pool& pool) {
  each_row(pool, a.rows, a.columns, [&](i64 r) {
    const float* x = a.x + r * a.xPitch;
    float* y = a.y + r * a.columns;
    const float largest = row_max(x, a.columns);
    const float log_sum = log(float(sum_exp(x, a.columns, largest)));
    // Not x − (largest + log_sum): a large maximum would round the small logarithm away.
    for (i64 c = 0; c < a.columns; c++) y[c] = (x[c] - largest) - log_sum;
  });
}

void log_softmax_backward(const LogSoftmaxBackward& a, Pool& pool) {
  each_row(pool, a.rows, a.columns, [&](i64 r) {
    const float* y = a.y + r * a.columns;
    const float* dy = a.dy + r * a.dyPitch;
    float* dx = a.dx + r * a.columns;
    const float total = float(sum_pieces(a.columns, [&](i64 i, i64 n) { return load_first(dy + i, n); }));
    for (i64 i = 0; i < a.columns; i += kLanes) {
      const i64 n = a.columns - i;
      store_first(dx + i, load_first(dy + i, n) - exp_shifted(load_first(y + i, n)) * total, n);
    }
  });
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
