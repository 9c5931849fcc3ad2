// What the convolution's kernels share: where inputs lie, which of them a position sees, and the weights turned around.
#pragma once

namespace elapid {
namespace ELAPID_TARGET {

template <int kValue>
struct Constant {
  static constexpr int value = kValue;
};

// Rows of a tile in the fast paths. Of 2, 4 and 8, 8 was slower forward; 2 was a little faster with AVX2, 4 with AVX-512.
constexpr int kConvTile = 4;

// Asks for a line of the next tile. Measured, not derived: it pays where silu's arithmetic stands between the loads.
ELAPID_INLINE void conv_prefetch(const float* p) { __builtin_prefetch(p, 0, 2); }

// One sequence, seen from the first channel of a block. Position −1 is the newest row of the initial state.
struct ConvSequence {
  const float* x;
  const float* initial;  // null: zeros
  const float* zeros;
  const i32* starts;  // null: one document
  i64 length, taps, pitch, state_pitch;

  ELAPID_INLINE const float* row(i64 t) const {
    if (t >= 0) return x + t * pitch;
    return initial == nullptr ? zeros : initial + (t + taps - 1) * state_pitch;
  }

  ELAPID_INLINE bool starts_at(i64 t) const { return t >= 0 && t < length && starts[t] != 0; }

  // How many taps of position t stay in its document: at least its own.
  i64 taps_at(i64 t) const {
    if (starts == nullptr) return taps;
    i64 j = 1;
    while (j < taps && !starts_at(t - j + 1)) j++;
    return j;
  }

  // How many positions, from s on, see the input at s.
  i64 readers_of(i64 s) const {
    i64 j = 1;
    const i64 end = min(taps, length - s);
    if (starts == nullptr) return end;
    while (j < end && !starts_at(s + j)) j++;
    return min(j, end);
  }

  // Whether all taps of positions t … t + rows − 1 stay in one document.
  bool unbroken(i64 t, i64 rows) const {
    if (starts == nullptr) return true;
    for (i64 p = max(i64(0), t - taps + 2); p < t + rows; p++)
      if (starts[p] != 0) return false;
    return true;
  }

  // The first position whose input belongs to the last document, or anything at or below length − taps + 1.
  i64 last_document() const {
    i64 p = length - 1;
    if (starts == nullptr) return length - taps + 1;
    while (p > length - taps + 1 && !starts_at(p)) p--;
    return p;
  }
};

// The channels, cut into blocks of about `preferred`, fewer where `rows` rows of scratch would not fit. Channels that do not
// fill a vector are a block of their own, so that the fast paths have whole vectors only.
struct ConvBlocks {
  i64 channels, whole, width, count;

  ConvBlocks(i64 channels, i64 preferred, i64 rows) : channels(channels), whole(channels / kLanes * kLanes) {
    const i64 fitting = i64(kThreadScratchBytes / sizeof(float)) / rows / 16 * 16;
    const i64 most = max(min(preferred, fitting), i64(16)), blocks = max(i64(1), ceil_div(whole, most));
    width = max(i64(16), ceil_div(ceil_div(whole, blocks), 16) * 16);
    count = ceil_div(whole, width) + (whole < channels ? 1 : 0);
  }

  i64 first(i64 block) const { return min(block * width, whole); }
  i64 size(i64 block) const { return first(block) == whole ? channels - whole : min(width, whole - first(block)); }
};

// Row j < taps of the table is the weight of tap j (j positions back), row `taps` the bias. The weights lie in memory with
// the channel's taps together, oldest first; the kernels want the channels together.
inline void conv_table(const float* weight, const float* bias, i64 first, i64 count, i64 taps, i64 weight_pitch, float* table, i64 width) {
  for (i64 c = 0; c < count; c++) {
    const float* w = weight + (first + c) * weight_pitch;
    for (i64 j = 0; j < taps; j++) table[j * width + c] = w[taps - 1 - j];
    table[taps * width + c] = bias == nullptr ? 0.0f : bias[first + c];
  }
}

// x·sigmoid(x)
ELAPID_INLINE vf conv_silu(vf x) { return x / (1.0f + exp_bounded(-x)); }

// dy·silu′(x)
ELAPID_INLINE vf conv_silu_backward(vf x, vf dy) {
  const vf s = 1.0f / (1.0f + exp_bounded(-x));
  return dy * s * (1.0f + x * (1.0f - s));
}

// Calls f with `taps` as a constant where there is a fast path for it, else with 0. Every published model has 4; each more
// adds some 15 KB to the wasm file.
template <class F>
ELAPID_INLINE void with_taps(i64 taps, F f) {
  taps == 4 ? f(Constant<4>()) : f(Constant<0>());
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
