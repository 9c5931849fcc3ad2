// Backward pass. Walking forward in time, g = dy·act′(pre) of a position completes the gradient of the input taps − 1
// positions earlier; the last `taps` rows of g are kept in a ring. A chunk therefore runs taps − 1 positions past its end,
// for the gradients of its own last inputs; only positions inside it count for the weights.
#pragma once

namespace elapid {
namespace ELAPID_TARGET {

// One chunk of a sequence and a block of its channels.
struct ConvGradient {
  ConvSequence in;
  const float* table;
  i64 width, channels, begin, end;
  const float* dy;  // position 0, or null
  i64 dy_pitch;
  float* dx;  // position 0, or null
  float* dinitial;  // position −(taps − 1), or null
  i64 gradient_pitch;
  float* sums;  // taps + 1 rows: the taps' weights in the order of the table, and the bias
  i64 sums_pitch;
  float* ring;  // taps rows
  float* nowhere;  // a row for what nobody wants

  ELAPID_INLINE const float* dy_row(i64 t) const { return dy == nullptr ? in.zeros : dy + t * dy_pitch; }

  // Before the start of the chunk, gradients are those of the initial state, or another chunk's.
  ELAPID_INLINE float* input_gradient(i64 s) const {
    if (s >= begin) return dx == nullptr ? nowhere : dx + s * gradient_pitch;
    return begin > 0 || dinitial == nullptr ? nowhere : dinitial + (s + in.taps - 1) * gradient_pitch;
  }

  ELAPID_INLINE float* g_row(i64 t) const { return ring + (t + in.taps) % in.taps * width; }
};

// Rows t … t + kRows − 1 of the chunk, all of whose taps stay in one document; whole vectors of channels.
template <int kTaps, int kRows, bool kSilu>
void conv_backward_tile(const ConvGradient& a, i64 t) {
  const float* before[kTaps];
  float* g_before[kTaps];
  for (int j = 1; j < kTaps; j++) {
    before[j] = a.in.row(t - j);
    g_before[j] = a.g_row(t - j);
  }
  float* dx[kRows];
  for (int i = 0; i < kRows; i++) dx[i] = a.input_gradient(t + i - kTaps + 1);
  float* g_after[kTaps];
  for (int j = 0; j < kTaps; j++) g_after[j] = a.g_row(t + kRows - 1 - j);
  const float* x = a.in.row(t);
  const float* dy = a.dy_row(t);
  const i64 dy_pitch = a.dy == nullptr ? 0 : a.dy_pitch;

  for (i64 c = 0; c < a.channels; c += kLanes) {
    vf weight[kTaps], window[kTaps], g[kTaps], dweight[kTaps] = {}, dbias{};
    for (int j = 0; j < kTaps; j++) weight[j] = load(a.table + j * a.width + c);
    for (int j = 1; j < kTaps; j++) {
      window[j] = load(before[j] + c);
      g[j] = load(g_before[j] + c);
    }
    const vf bias = load(a.table + kTaps * a.width + c);
    for (int i = 0; i < kRows; i++) {
      window[0] = load(x + i * a.in.pitch + c);
      conv_prefetch(x + (i + kRows) * a.in.pitch + c);
      conv_prefetch(dy + (i + kRows) * dy_pitch + c);
      g[0] = load(dy + i * dy_pitch + c);
      if constexpr (kSilu) {
        vf sum = bias;
        for (int j = 0; j < kTaps; j++) sum += weight[j] * window[j];
        g[0] = conv_silu_backward(sum, g[0]);
      }
      vf d{};
      for (int j = 0; j < kTaps; j++) {
        dweight[j] += g[0] * window[j];
        d += weight[kTaps - 1 - j] * g[j];
      }
      dbias += g[0];
      store(dx[i] + c, d);
      // The next tile needs the newest kTaps − 1 rows of g.
      if (kRows - i < kTaps) store(g_after[kRows - 1 - i] + c, g[0]);
      for (int j = kTaps - 1; j > 0; j--) {
        window[j] = window[j - 1];
        g[j] = g[j - 1];
      }
    }
    for (int j = 0; j < kTaps; j++) {
      float* sum = a.sums + j * a.sums_pitch + c;
      store(sum, load(sum) + dweight[j]);
    }
    float* sum = a.sums + kTaps * a.sums_pitch + c;
    store(sum, load(sum) + dbias);
  }
}

// Position t, whatever its taps; t may be past the chunk, and past the sequence.
template <bool kSilu>
void conv_backward_row(const ConvGradient& a, i64 t) {
  const ConvSequence& in = a.in;
  if (t < in.length) {
    const i64 taps = in.taps_at(t);
    const bool counts = t < a.end;
    const float* dy = a.dy_row(t);
    float* g_row = a.g_row(t);
    each_vector_of(a.channels, [&](i64 c, i64 n) {
      vf g = load_first(dy + c, n);
      if constexpr (kSilu) {
        vf sum = load_first(a.table + in.taps * a.width + c, n);
        for (i64 j = 0; j < taps; j++) sum += load_first(a.table + j * a.width + c, n) * load_first(in.row(t - j) + c, n);
        g = conv_silu_backward(sum, g);
      }
      store_first(g_row + c, g, n);
      if (!counts) return;
      for (i64 j = 0; j < taps; j++) {
        float* sum = a.sums + j * a.sums_pitch + c;
        store_first(sum, load_first(sum, n) + g * load_first(in.row(t - j) + c, n), n);
      }
      float* sum = a.sums + in.taps * a.sums_pitch + c;
      store_first(sum, load_first(sum, n) + g, n);
    });
  }
  const i64 s = t - in.taps + 1;
  float* dx = a.input_gradient(s);
  if (dx == a.nowhere) return;
  const i64 readers = in.readers_of(s), first = max(i64(0), -s);
  each_vector_of(a.channels, [&](i64 c, i64 n) {
    vf d{};
    for (i64 j = first; j < readers; j++) d += load_first(a.table + j * a.width + c, n) * load_first(a.g_row(s + j) + c, n);
    store_first(dx + c, d, n);
  });
}

template <int kTaps, bool kSilu>
void conv_backward_chunk(const ConvGradient& a) {
  for (i64 t = a.begin; t < a.end + a.in.taps - 1;) {
    if constexpr (kTaps > 0) {
      if (a.channels % kLanes == 0 && t + kConvTile <= a.end && a.in.unbroken(t, kConvTile)) {
        conv_backward_tile<kTaps, kConvTile, kSilu>(a, t);
        t += kConvTile;
        continue;
      }
    }
    conv_backward_row<kSilu>(a, t);
    t++;
  }
}

// Adds the cotangents of the final state to the gradients of the inputs it holds, as far as this chunk owns them.
inline void conv_final_state_backward(const ConvGradient& a, const float* dfinal, i64 pitch) {
  const i64 oldest = a.in.length - a.in.taps + 1;
  const i64 first = max(max(oldest, a.in.last_document()), a.begin == 0 ? 1 - a.in.taps : a.begin);
  for (i64 s = first; s < a.end; s++) {
    float* dx = a.input_gradient(s);
    if (dx == a.nowhere) continue;
    const float* d = dfinal + (s - oldest) * pitch;
    for (i64 c = 0; c < a.channels; c++) dx[c] += d[c];
  }
}

// partials [spans, taps + 1, channels] → dweight [channels, taps], dbias [channels], adding in the order of the spans.
inline void conv_sum_partials(const CausalConv1dBackward& a, Pool& pool) {
  const i64 rows = a.taps + 1, stride = rows * a.channels;
  each_block(pool, a.channels, max(i64(kLanes), kElementwiseGrain / max(i64(1), a.spans * rows) / kLanes * kLanes), [&](i64 begin, i64 end) {
    for (i64 j = 0; j < rows; j++) {
      each_vector_of(end - begin, [&](i64 c, i64 n) {
        vf total{};
        for (i64 span = 0; span < a.spans; span++) total += load_first(a.partials + span * stride + j * a.channels + begin + c, n);
        float lanes[kLanes];
        store(lanes, total);
        for (i64 i = 0; i < n; i++) {
          const i64 e = begin + c + i;
          if (j == a.taps && a.dbias != nullptr) a.dbias[e] = lanes[i];
          if (j < a.taps && a.dweight != nullptr) a.dweight[e * a.taps + a.taps - 1 - j] = lanes[i];
        }
      });
    }
  });
}

void causal_conv1d_backward(const CausalConv1dBackward& a, Pool& pool) {
  const ConvBlocks blocks(a.channels, 512, 3 * a.taps + 4);
  const i64 width = blocks.width;
  const i64 chunks = max(i64(1), ceil_div(a.length, a.chunk)), units = a.batch * chunks;
  const i64 units_per_span = max(i64(1), ceil_div(units, a.spans)), states = a.taps - 1;
  const i64 task_size = max(i64(1), units_per_span * min(a.chunk, a.length) * width);
  with_taps(a.taps, [&](auto taps) {
    constexpr int kTaps = decltype(taps)::value;
    const auto run = [&](i64 task, int thread) {
      const i64 block = task % blocks.count, span = task / blocks.count;
      const i64 first = blocks.first(block), channels = blocks.size(block);
      float* table = pool.scratch<float>(thread);
      float* zeros = table + (a.taps + 1) * width;
      float* nowhere = zeros + width;
      float* ring = nowhere + width;
      float* unwanted_sums = ring + a.taps * width;
      conv_table(a.weight, a.bias, first, channels, a.taps, a.weightPitch, table, width);
      for (i64 c = 0; c < width; c++) zeros[c] = 0.0f;
      float* sums = a.partials == nullptr ? unwanted_sums : a.partials + span * (a.taps + 1) * a.channels + first;
      const i64 sums_pitch = a.partials == nullptr ? width : a.channels;
      for (i64 j = 0; j <= a.taps; j++)
        for (i64 c = 0; c < channels; c++) sums[j * sums_pitch + c] = 0.0f;

      for (i64 unit = span * units_per_span; unit < min((span + 1) * units_per_span, units); unit++) {
        const i64 b = unit / chunks, begin = unit % chunks * a.chunk;
        for (i64 i = 0; i < a.taps * width; i++) ring[i] = 0.0f;
        const ConvGradient gradient{
            {a.x + b * a.length * a.xPitch + first,
             a.initialState == nullptr ? nullptr : a.initialState + b * states * a.statePitch + first,
             zeros,
             a.sequenceStarts == nullptr ? nullptr : a.sequenceStarts + b * a.startsPitch,
             a.length, a.taps, a.xPitch, a.statePitch},
            table, width, channels, begin, min(begin + a.chunk, a.length),
            a.dy == nullptr ? nullptr : a.dy + b * a.length * a.dyPitch + first, a.dyPitch,
            a.dx == nullptr ? nullptr : a.dx + b * a.length * a.channels + first,
            a.dinitialState == nullptr ? nullptr : a.dinitialState + b * states * a.channels + first,
            a.channels, sums, sums_pitch, ring, nowhere};
        if (a.silu) conv_backward_chunk<kTaps, true>(gradient);
        else conv_backward_chunk<kTaps, false>(gradient);
        if (a.dfinalState != nullptr) {
          conv_final_state_backward(gradient, a.dfinalState + b * states * a.dfinalPitch + first, a.dfinalPitch);
        }
      }
    };
    const i64 tasks = a.spans * blocks.count, grain = max(i64(1), kElementwiseGrain / task_size);
    pool.each(ceil_div(tasks, grain), [&](i64 group, int thread) {
      for (i64 task = group * grain; task < min((group + 1) * grain, tasks); task++) run(task, thread);
    });
  });
  if (a.partials != nullptr) conv_sum_partials(a, pool);
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
