// Forward pass: y and the final state.
#pragma once

namespace elapid {
namespace ELAPID_TARGET {

// Rows t … t + kRows − 1, all of whose taps stay in one document; whole vectors of channels.
template <int kTaps, int kRows, bool kSilu>
void conv_tile(const ConvSequence& in, const float* table, i64 width, i64 t, i64 channels, float* y, i64 y_pitch) {
  const float* before[kTaps];
  for (int j = 1; j < kTaps; j++) before[j] = in.row(t - j);
  const float* x = in.row(t);
  y += t * y_pitch;
  for (i64 c = 0; c < channels; c += kLanes) {
    vf weight[kTaps], window[kTaps];
    for (int j = 0; j < kTaps; j++) weight[j] = load(table + j * width + c);
    for (int j = 1; j < kTaps; j++) window[j] = load(before[j] + c);
    const vf bias = load(table + kTaps * width + c);
    for (int i = 0; i < kRows; i++) {
      window[0] = load(x + i * in.pitch + c);
      conv_prefetch(x + (i + kRows) * in.pitch + c);
      vf sum = bias;
      for (int j = 0; j < kTaps; j++) sum += weight[j] * window[j];
      store(y + i * y_pitch + c, kSilu ? conv_silu(sum) : sum);
      for (int j = kTaps - 1; j > 0; j--) window[j] = window[j - 1];
    }
  }
}

// Row t, whatever its taps.
template <bool kSilu>
void conv_row(const ConvSequence& in, const float* table, i64 width, i64 t, i64 channels, float* y) {
  const i64 taps = in.taps_at(t);
  each_vector_of(channels, [&](i64 c, i64 n) {
    vf sum = load_first(table + in.taps * width + c, n);
    for (i64 j = 0; j < taps; j++) sum += load_first(table + j * width + c, n) * load_first(in.row(t - j) + c, n);
    store_first(y + c, kSilu ? conv_silu(sum) : sum, n);
  });
}

template <int kTaps, bool kSilu>
void conv_chunk(const ConvSequence& in, const float* table, i64 width, i64 begin, i64 end, i64 channels, float* y, i64 y_pitch) {
  const bool whole = channels % kLanes == 0;
  for (i64 t = begin; t < end;) {
    if constexpr (kTaps > 0) {
      if (whole && t + kConvTile <= end && in.unbroken(t, kConvTile)) {
        conv_tile<kTaps, kConvTile, kSilu>(in, table, width, t, channels, y, y_pitch);
        t += kConvTile;
        continue;
      }
    }
    conv_row<kSilu>(in, table, width, t, channels, y + t * y_pitch);
    t++;
  }
}

// Inputs of documents that ended before are not carried on: whatever follows starts behind them.
inline void conv_final_state(const ConvSequence& in, i64 channels, float* state, i64 state_pitch) {
  const i64 document = in.last_document();
  for (i64 t = in.length - in.taps + 1; t < in.length; t++) {
    const float* row = t < document ? in.zeros : in.row(t);
    float* to = state + (t - in.length + in.taps - 1) * state_pitch;
    for (i64 c = 0; c < channels; c++) to[c] = row[c];
  }
}

void causal_conv1d(const CausalConv1d& a, Pool& pool) {
  const ConvBlocks blocks(a.channels, 1024, a.taps + 2);
  const i64 width = blocks.width;
  const i64 chunk = 64, chunks = max(i64(1), ceil_div(a.length, chunk));
  const i64 task_size = max(i64(1), min(chunk, a.length) * width);
  with_taps(a.taps, [&](auto taps) {
    constexpr int kTaps = decltype(taps)::value;
    const i64 grain = max(i64(1), kElementwiseGrain / task_size), tasks = a.batch * chunks * blocks.count;
    pool.each(ceil_div(tasks, grain), [&](i64 group, int thread) {
      float* table = pool.scratch<float>(thread);
      float* zeros = table + (a.taps + 1) * width;
      for (i64 c = 0; c < width; c++) zeros[c] = 0.0f;
      for (i64 task = group * grain; task < min((group + 1) * grain, tasks); task++) {
        const i64 block = task % blocks.count, part = task / blocks.count % chunks, b = task / blocks.count / chunks;
        const i64 first = blocks.first(block), channels = blocks.size(block), states = a.taps - 1;
        const ConvSequence in{
            a.x + b * a.length * a.xPitch + first,
            a.initialState == nullptr ? nullptr : a.initialState + b * states * a.statePitch + first,
            zeros,
            a.sequenceStarts == nullptr ? nullptr : a.sequenceStarts + b * a.startsPitch,
            a.length, a.taps, a.xPitch, a.statePitch};
        conv_table(a.weight, a.bias, first, channels, a.taps, a.weightPitch, table, width);
        float* y = a.y + b * a.length * a.channels + first;
        const i64 begin = part * chunk, end = min(begin + chunk, a.length);
        if (a.silu) conv_chunk<kTaps, true>(in, table, width, begin, end, channels, y, a.channels);
        else conv_chunk<kTaps, false>(in, table, width, begin, end, channels, y, a.channels);
        if (part == chunks - 1) conv_final_state(in, channels, a.finalState + b * states * a.channels + first, a.channels);
      }
    });
  });
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
