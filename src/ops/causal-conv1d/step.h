// One decoding step: the state is the window.
#pragma once

namespace elapid {
namespace ELAPID_TARGET {

// The four weights of each of kLanes channels, as they lie, to four vectors of a tap each. A round interleaves the halves,
// which moves the bits of an element's number around by one place: channel·4 + tap becomes tap·kLanes + channel.
ELAPID_INLINE void taps_apart(const float* weights, float* table) {
  vf x[4] = {load(weights), load(weights + kLanes), load(weights + 2 * kLanes), load(weights + 3 * kLanes)};
  ELAPID_UNROLL
  for (int round = 1; round < kLanes; round *= 2) {
    const vf a = interleave_lower(x[0], x[2]), b = interleave_upper(x[0], x[2]);
    const vf c = interleave_lower(x[1], x[3]), d = interleave_upper(x[1], x[3]);
    x[0] = a, x[1] = b, x[2] = c, x[3] = d;
  }
  for (int i = 0; i < 4; i++) store(table + i * kLanes, x[i]);
}

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
          float table[kTogether * kLanes];
          if (a.taps == 4 && a.weightPitch == 4 && n == kLanes) taps_apart(a.weight + c * 4, table);
          else for (i64 lane = 0; lane < n; lane++)
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
