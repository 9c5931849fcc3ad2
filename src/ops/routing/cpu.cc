// A router's choice among experts, the tokens grouped by it, and the losses that keep it even.
#include "../../backend/cpu/native/kernel.h"
#include "../softmax/rows.h"

namespace elapid {
namespace ELAPID_TARGET {

void route(const Route& a, Pool& pool) {
  const i64 experts = a.experts;
  each_row(pool, a.tokens, 8 * experts, [&](i64 t) {
    const float* x = a.logits + t * experts;
    float* p = a.probabilities + t * experts;
    const float largest = row_max(x, experts);
    const double total = sum_pieces(experts, [&](i64 i, i64 n) {
      const vf e = exp_shifted(load_first(x + i, n, -__builtin_inff()) - largest);
      store_first(p + i, e, n);
      return e;
    });
    const float factor = float(1.0 / total);
    i64 best = 0;
    for (i64 e = 0; e < experts; e++) {
      p[e] *= factor;
      if (p[e] > p[best]) best = e;
    }
    a.choice[t] = i32(best);
    a.gate[t] = p[best];
    a.logSum[t] = largest + log(float(total));
  });
}

void route_backward(const RouteBackward& a, Pool& pool) {
  const i64 experts = a.experts;
  const double n = double(a.total);
  const float balance = a.dBalance == nullptr ? 0.0f : float(a.dBalance[0] * a.balanceWeight * double(experts) / (n * n));
  const float z = a.dZ == nullptr ? 0.0f : float(2 * a.dZ[0] * a.zWeight / n);
  each_row(pool, a.tokens, 4 * experts, [&](i64 t) {
    const float* p = a.probabilities + t * experts;
    float* d = a.dLogits + t * experts;
    const i64 choice = a.choice[t];
    const float own = a.dGate == nullptr ? 0.0f : a.dGate[t];
    float mean = 0.0f;
    for (i64 e = 0; e < experts; e++) {
      d[e] = balance * float(a.counts[e]) + (e == choice ? own : 0.0f);
      mean += p[e] * d[e];
    }
    const float shift = z * a.logSum[t] - mean;
    for (i64 e = 0; e < experts; e++) d[e] = p[e] * (d[e] + shift);
  });
}

// One pass over the choices for the counts, one for the places: some nanoseconds a token, against microseconds for its products.
void group_tokens(const GroupTokens& a, Pool& pool) {
  const i64 experts = a.experts;
  for (i64 e = 0; e < experts; e++) a.counts[e] = 0;
  for (i64 t = 0; t < a.tokens; t++) a.counts[a.choice[t]]++;
  a.offsets[0] = 0;
  i32* const next = pool.shared<i32>();
  for (i64 e = 0; e < experts; e++) {
    next[e] = a.offsets[e];
    a.offsets[e + 1] = a.offsets[e] + i32(min(i64(a.counts[e]), a.capacity));
  }
  for (i64 t = 0; t < a.tokens; t++) {
    const i64 e = a.choice[t];
    const bool kept = next[e] < a.offsets[e + 1];
    a.place[t] = kept ? next[e] : -1;
    if (kept) a.order[next[e]++] = i32(t);
  }
  for (i64 i = a.offsets[experts]; i < a.tokens; i++) a.order[i] = -1;
}

void router_losses(const RouterLosses& a, Pool& pool) {
  constexpr i64 block = 1024;
  double* const sums = pool.shared<double>();
  const i64 most = i64(kSharedScratchBytes / (2 * sizeof(double)));
  double balance = 0, squares = 0;
  for (i64 first = 0; first < a.tokens; first += most * block) {
    const i64 count = min(most, ceil_div(a.tokens - first, block));
    pool.each(count, [&](i64 task, int) {
      const i64 begin = first + task * block, end = min(begin + block, a.tokens);
      double sum = 0, square = 0;
      for (i64 t = begin; t < end; t++) {
        const float* p = a.probabilities + t * a.experts;
        float own = 0.0f;
        for (i64 e = 0; e < a.experts; e++) own += p[e] * float(a.counts[e]);
        sum += double(own);
        square += double(a.logSum[t]) * double(a.logSum[t]);
      }
      sums[2 * task] = sum;
      sums[2 * task + 1] = square;
    });
    for (i64 i = 0; i < count; i++) balance += sums[2 * i], squares += sums[2 * i + 1];
  }
  const double n = double(a.tokens);
  a.balance[0] = float(a.balanceWeight * double(a.experts) * balance / (n * n));
  a.z[0] = float(a.zWeight * squares / n);
  a.dropped[0] = float(1 - double(a.offsets[a.experts]) / n);
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
