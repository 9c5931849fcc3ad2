// One position. A state is read and written once, as it lies in memory, [features][states]: lanes run across the states of a feature.
#pragma once
#include "runs.h"

namespace elapid {
namespace ELAPID_TARGET {

// Floats between a row of the state and its prefetch.
constexpr i64 kSsdAhead = 512;

// kLanes features of a head from `feature` on, `count` of them there; their sums over states. kWhole: every vector of states is full.
template <bool kWhole>
ELAPID_INLINE vf step_features(const SsdStep& a, const float* b, const float* c, float* state, i64 count, vf decay, const float* inputs) {
  const i64 states = a.stateSize;
  vf sums[kLanes] = {};
  if (count >= kLanes) {
    for (i64 n = 0; n < states; n += kLanes) {
      const i64 left = kWhole ? i64(kLanes) : states - n;
      const vf weight = load_first(b + n, left), reading = load_first(c + n, left);
      ELAPID_UNROLL
      for (int i = 0; i < kLanes; i++) {
        float* const at = state + i * states + n;
        const vf s = load_first(at, left) * decay + weight * splat(inputs[i]);
        store_first(at, s, left);
        sums[i] += s * reading;
      }
    }
  } else {
    for (i64 i = 0; i < count; i++) {
      for (i64 n = 0; n < states; n += kLanes) {
        const i64 left = states - n;
        float* const at = state + i * states + n;
        const vf s = load_first(at, left) * decay + load_first(b + n, left) * splat(inputs[i]);
        store_first(at, s, left);
        sums[i] += s * load_first(c + n, left);
      }
    }
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
    vf y = step_features<kWhole>(a, b, c, a.state + ((batch * a.heads + head) * a.headSize + p) * a.stateSize, count, decay, inputs);
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
