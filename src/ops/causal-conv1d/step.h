// One decoding step: the state is the window.
#pragma once

namespace elapid {
namespace ELAPID_TARGET {

void causal_conv1d_step(const CausalConv1dStep& a, Pool& pool) {
  const i64 width = 64, blocks = ceil_div(a.channels, width), states = a.taps - 1;
  each_block(pool, blocks, max(i64(1), kElementwiseGrain / max(i64(1), a.batch * a.taps * width)), [&](i64 begin, i64 end) {
    for (i64 block = begin; block < end; block++) {
      const i64 first = block * width;
      for (i64 c = first; c < min(first + width, a.channels); c += kLanes) {
        const i64 n = min(i64(kLanes), a.channels - c);
        // The weights of these channels, turned around once for the whole batch, a few taps at a time.
        constexpr i64 kTogether = 16;
        for (i64 b = 0; b < a.batch; b++) store_first(a.y + b * a.channels + c, a.bias == nullptr ? vf{} : load_first(a.bias + c, n), n);
        for (i64 oldest = 0; oldest < a.taps; oldest += kTogether) {
          const i64 count = min(kTogether, a.taps - oldest);
          float table[kTogether * kLanes] = {};
          for (i64 lane = 0; lane < n; lane++)
            for (i64 i = 0; i < count; i++) table[i * kLanes + lane] = a.weight[(c + lane) * a.weightPitch + oldest + i];
          const bool last = oldest + count == a.taps;
          for (i64 b = 0; b < a.batch; b++) {
            float* state = a.state + b * states * a.statePitch + c;
            const vf x = load_first(a.x + b * a.xPitch + c, n);
            float* y = a.y + b * a.channels + c;
            vf sum = load_first(y, n);
            for (i64 i = 0; i < count; i++) {
              const i64 at = oldest + i;
              const vf value = at < states ? load_first(state + at * a.statePitch, n) : x;
              sum += load(table + i * kLanes) * value;
              if (at > 0) store_first(state + (at - 1) * a.statePitch, value, n);
            }
            store_first(y, last && a.silu ? conv_silu(sum) : sum, n);
          }
        }
      }
    }
  });
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
