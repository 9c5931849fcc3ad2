// One step of decoding. A state's rows are read and written as they lie in memory, [B, E, N], so here the lanes run across
// the states of a channel; what is per channel is worked out for a vector of channels at once.
namespace elapid {
namespace ELAPID_TARGET {

// Floats between a row of A or of the state and its prefetch: a step computes less than it reads.
constexpr i64 kStepAhead = 512;

// The states of a channel, kLanes at a time; kWhole: every vector of them is full.
template <bool kHold, bool kWhole>
ELAPID_INLINE vf step_states(const float* a_row, float* h_row, const float* b, const float* c, i64 states, vf delta, vf x) {
  const vf delta2 = delta * kLog2E;
  vf sum{};
  for (i64 n = 0; n < states; n += kLanes) {
    const i64 left = kWhole ? i64(kLanes) : states - n;
    __builtin_prefetch(a_row + n + kStepAhead);
    __builtin_prefetch(h_row + n + kStepAhead);
    const vf a_n = load_first(a_row + n, left), exponent = delta2 * a_n;
    vf h = load_first(h_row + n, left), input = x * load_first(b + n, left);
    if constexpr (kHold) {
      vf m1;
      const vf decay = exp2_and_m1(exponent, m1);
      h = decay * h + hold_gain(delta, exponent, m1, 1.0f / a_n) * input;
    } else {
      h = exp2(exponent) * h + input;
    }
    store_first(h_row + n, h, left);
    sum += h * load_first(c + n, left);
  }
  return sum;
}

template <bool kHold, bool kWhole>
void step_channels(const SelectiveScanStep& a, i64 batch, i64 first, i64 count) {
  const float* b = a.B + batch * a.bPitch;
  const float* c = a.C + batch * a.cPitch;
  const float* a_row = a.A + first * a.stateSize;
  float* h_row = a.state + (batch * a.channels + first) * a.stateSize;
  float deltas[kLanes], inputs[kLanes];
  const vf u = load_first(a.u + batch * a.uPitch + first, count);
  vf d = load_first(a.delta + batch * a.deltaPitch + first, count), slope;
  if (a.deltaBias) d += load_first(a.deltaBias + first, count);
  if (a.softplus) d = softplus_and_slope(d, slope);
  store(deltas, d);
  store(inputs, kHold ? u : d * u);
  vf sums[kLanes];
  for (i64 l = 0; l < kLanes; l++, a_row += a.stateSize, h_row += a.stateSize) {
    sums[l] = l < count ? step_states<kHold, kWhole>(a_row, h_row, b, c, a.stateSize, splat(deltas[l]), splat(inputs[l])) : vf{};
  }
  vf y = sum_each(sums);
  if (a.D) y += u * load_first(a.D + first, count);
  if (a.z) {
    const vf z = load_first(a.z + batch * a.zPitch + first, count);
    y *= z * fast_sigmoid(z);
  }
  store_first(a.y + batch * a.channels + first, y, count);
}

void selective_scan_step(const SelectiveScanStep& a, Pool& pool) {
  const i64 vectors = ceil_div(a.channels, i64(kLanes));
  const bool whole = a.stateSize % kLanes == 0;
  const auto step = a.hold ? step_channels<true, false> : whole ? step_channels<false, true> : step_channels<false, false>;
  // A state takes some ten instructions, so a quarter of an elementwise task's elements is as much work.
  each_block(pool, a.batch * vectors, max(i64(1), kElementwiseGrain / 4 / (a.stateSize * kLanes)), [&](i64 begin, i64 end) {
    for (i64 i = begin; i < end; i++) {
      const i64 first = i % vectors * kLanes;
      step(a, i / vectors, first, a.channels - first);
    }
  });
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
