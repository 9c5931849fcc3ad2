// One position. A state is read and written once, as it lies in memory, [features][states]: lanes run across the states of a feature.
#pragma once
#include "runs.h"

namespace elapid {
namespace ELAPID_TARGET {

// Floats between a row of the state and its prefetch: a step computes less than it reads.
constexpr i64 kSsdAhead = 1024;

// Up to kLanes features of a head, one after another, so that memory is read as one stream; their sums over states. kWhole: every vector of
// states is full.
template <bool kWhole>
ELAPID_INLINE vf step_features(i64 states, const float* b, const float* c, float* state, i64 count, vf decay, const float* inputs) {
  vf sums[kLanes] = {};
  for (i64 i = 0; i < min(count, i64(kLanes)); i++, state += states) {
    const vf input = splat(inputs[i]);
    vf total{};
    for (i64 n = 0; n < states; n += kLanes) {
      const i64 left = kWhole ? i64(kLanes) : states - n;
      if (n % 16 == 0) __builtin_prefetch(state + n + kSsdAhead, 1);
      const vf s = load_first(state + n, left) * decay + load_first(b + n, left) * input;
      store_first(state + n, s, left);
      total += s * load_first(c + n, left);
    }
    sums[i] = total;
  }
  return sum_each(sums);
}

template <bool kWhole>
void step_head(const SsdStep& a, i64 batch, i64 head) {
  const i64 group = head * a.groups / a.heads * a.stateSize, column = head * a.headSize;
  const float* const b = a.B + batch * a.bPitch + group;
  const float* const c = a.C + batch * a.cPitch + group;
  vf delta = splat(a.delta[batch * a.deltaPitch + head] + (a.deltaBias != nullptr ? a.deltaBias[head] : 0.0f)), slope;
  if (a.softplus) delta = softplus_and_slope(delta, slope);
  delta = delta < splat(a.deltaLeast) ? splat(a.deltaLeast) : delta;
  delta = delta > splat(a.deltaLargest) ? splat(a.deltaLargest) : delta;
  const vf decay = exp2(delta * (a.A[head] * kLog2E));
  for (i64 p = 0; p < a.headSize; p += kLanes) {
    const i64 count = a.headSize - p;
    const vf x = load_first(a.x + batch * a.xPitch + column + p, count);
    float inputs[kLanes];
    store(inputs, delta * x);
    vf y = step_features<kWhole>(a.stateSize, b, c, a.state + ((batch * a.heads + head) * a.headSize + p) * a.stateSize, count, decay, inputs);
    if (a.D != nullptr) y += x * (a.skipByFeature ? load_first(a.D + column + p, count) : splat(a.D[head]));
    if (a.z != nullptr) {
      const vf z = load_first(a.z + batch * a.zPitch + column + p, count);
      y *= z * fast_sigmoid(z);
    }
    store_first(a.y + batch * a.heads * a.headSize + column + p, y, count);
  }
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
