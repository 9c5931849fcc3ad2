// Convolution by transforms. A real sequence of 2N numbers is one of N complex ones, even and odd positions; with E and O for the spectra of
// those (N frequencies each), a filter and an input give E = E_w E_x + v O_w O_x and O = O_w E_x + E_w O_x, v = e^{−2πik/N}. Frequencies k and
// N − k are worked on together. Nothing is brought into order: spectra stay with their bits reversed.
#pragma once

namespace elapid {
namespace ELAPID_TARGET {

struct HalfSpectra {
  Complex even, odd;
};

// Twice the spectra of the even and odd positions.
ELAPID_INLINE HalfSpectra halves(Complex a, Complex partner) {
  return {{a.re + partner.re, a.im - partner.im}, {a.im + partner.im, partner.re - a.re}};
}

// out (=, +=) 4·(input filtered by the filter), or by the filter turned around in time.
template <bool kTurned, bool kAdd>
ELAPID_INLINE void filter_pair(const float* input, const float* filter, float* out, i64 p, i64 q, const float* table, i64 k) {
  const HalfSpectra x = halves(load_point(input + p * kPoint), load_point(input + q * kPoint));
  const HalfSpectra w = halves(load_point(filter + p * kPoint), load_point(filter + q * kPoint));
  const Complex late = w.odd * entry(table, k);
  Complex even, odd;
  if constexpr (kTurned) {
    even = x.even * conjugate(w.even) + x.odd * conjugate(w.odd);
    odd = x.even * conjugate(late) + x.odd * conjugate(w.even);
  } else {
    even = x.even * w.even + x.odd * late;
    odd = x.even * w.odd + x.odd * w.even;
  }
  Complex a = even + times_i(odd), b = conjugate(even) + times_i(conjugate(odd));
  if constexpr (kAdd) {
    a = a + load_point(out + p * kPoint);
    b = b + load_point(out + q * kPoint);
  }
  store_point(out + p * kPoint, a);
  store_point(out + q * kPoint, b);
}

template <bool kTurned, bool kAdd>
ELAPID_NOINLINE inline void filter_spectrum(const float* input, const float* filter, float* out, i64 points, const float* table) {
  const int bits = __builtin_ctzll(points);
  filter_pair<kTurned, kAdd>(input, filter, out, 0, 0, table, 0);
  if (points > 1) filter_pair<kTurned, kAdd>(input, filter, out, 1, 1, table, points / 2);
  // With the bits of k reversed, those of N − k are those below the highest one turned over.
  for (i64 first = 2; first < points; first *= 2)
    for (i64 i = 0; i < first / 2; i++)
      filter_pair<kTurned, kAdd>(input, filter, out, first + i, 2 * first - 1 - i, table, reversed_bits(first + i, bits));
}

// Whole vectors of features of a time-major array, as complex numbers that are followed by zeros.
struct ConvRows {
  const float* x;
  i64 pitch, length;
  ELAPID_INLINE vf row(i64 t) const { return t < length ? load(x + t * pitch) : vf{}; }
  ELAPID_INLINE Complex get(i64 m) const { return {row(2 * m), row(2 * m + 1)}; }
};
struct ConvResult {
  float* y;
  i64 pitch, length;
  ELAPID_INLINE void put(i64 m, Complex a) const {
    if (2 * m < length) store(y + 2 * m * pitch, a.re);
    if (2 * m + 1 < length) store(y + (2 * m + 1) * pitch, a.im);
  }
};

// The transform of the rows of a time-major array, and the way back.
ELAPID_NOINLINE inline void conv_forward(const float* x, i64 pitch, i64 length, i64 features, i64 points, const float* table, float* z) {
  if (features == kLanes) return fft_forward_from(ConvRows{x, pitch, length}, z, points, table);
  for (i64 t = 0; t < length; t++) store(z + t * kLanes, load_first(x + t * pitch, features));
  for (i64 t = length; t < 2 * points; t++) store(z + t * kLanes, vf{});
  fft_forward(z, points, table);
}
ELAPID_NOINLINE inline void conv_inverse(float* z, i64 points, const float* table, i64 length, i64 features, float* y, i64 pitch) {
  if (features == kLanes) return fft_inverse_into(z, ConvResult{y, pitch, length}, points, table);
  fft_inverse(z, points, table);
  for (i64 t = 0; t < length; t++) store_first(y + t * pitch, load(z + t * kLanes), features);
}

template <class Args>
struct ConvBlocksOf {
  const Args& a;
  i64 count = ceil_div(a.features, i64(kLanes));
  // Floats of a block's spectrum, and of those of all filters.
  i64 spectrum = a.points * kPoint, spectra = a.channels * ceil_div(a.features, i64(16)) * 16 * 2 * a.points;
  i64 size(i64 block) const { return min(i64(kLanes), a.features - block * kLanes); }
};

// The spectra of filters, for what `filter_spectrum` and `fft_inverse` multiply them by: [channels][blocks][points].
template <class Args>
void conv_spectra(const Args& a, Pool& pool, float* spectra) {
  const ConvBlocksOf<Args> blocks{a};
  const i64 tasks = a.channels * blocks.count, grain = max(i64(1), kElementwiseGrain / blocks.spectrum), reals = 2 * a.points;
  const float scale = 0.25f / float(a.points);
  pool.each(ceil_div(tasks, grain), [&](i64 group, int) {
    for (i64 task = group * grain; task < min((group + 1) * grain, tasks); task++) {
      const i64 c = task / blocks.count, block = task % blocks.count, features = blocks.size(block), first = block * kLanes;
      float* const z = spectra + task * blocks.spectrum;
      // The filter over the future lies before position 0, which is at the end.
      const i64 middle = reals - a.reverseTaps;
      fft_lanes_of(a.kernel + (c * a.features + first) * a.kernelPitch, a.kernelPitch, features, a.taps, scale, z);
      for (i64 t = a.taps; t < middle; t++) store(z + t * kLanes, vf{});
      if (a.reverseTaps > 0) {
        fft_lanes_of(a.reverseKernel + (c * a.features + first) * a.reversePitch, a.reversePitch, features, a.reverseTaps, scale, z + middle * kLanes);
        for (i64 i = middle, j = reals - 1; i < j; i++, j--) {
          const vf later = load(z + j * kLanes);
          store(z + j * kLanes, load(z + i * kLanes));
          store(z + i * kLanes, later);
        }
      }
      if (a.D != nullptr) store(z, load(z) + load_first(a.D + c * a.skipPitch + first, features) * scale);
      fft_forward(z, a.points, a.table);
    }
  });
}

void fft_conv(const FftConv& a, Pool& pool) {
  const ConvBlocksOf<FftConv> blocks{a};
  conv_spectra(a, pool, a.work);
  each_transform(pool, a.batch * blocks.count, a.points, a.areas, a.work + blocks.spectra, [&](i64 task, float* memory) {
    const i64 b = task / blocks.count, block = task % blocks.count, features = blocks.size(block), first = block * kLanes;
    const i64 outputs = a.channels * a.features;
    conv_forward(a.x + b * a.length * a.xPitch + first, a.xPitch, a.length, features, a.points, a.table, memory);
    for (i64 c = 0; c < a.channels; c++) {
      float* const out = c + 1 < a.channels ? memory + blocks.spectrum : memory;
      filter_spectrum<false, false>(memory, a.work + (c * blocks.count + block) * blocks.spectrum, out, a.points, a.table);
      conv_inverse(out, a.points, a.table, a.length, features, a.y + b * a.length * outputs + c * a.features + first, outputs);
    }
  });
}

void fft_conv_backward(const FftConvBackward& a, Pool& pool) {
  const ConvBlocksOf<FftConvBackward> blocks{a};
  const bool filters = a.dkernel != nullptr || a.dD != nullptr || a.dreverseKernel != nullptr;
  float* const sums = a.work + blocks.spectra;
  if (a.dx != nullptr) conv_spectra(a, pool, a.work);
  const i64 per_span = ceil_div(a.batch, a.spans);
  each_transform(pool, a.spans * blocks.count, a.points, a.areas, sums + a.spans * blocks.spectra, [&](i64 task, float* memory) {
    const i64 span = task / blocks.count, block = task % blocks.count, features = blocks.size(block), first = block * kLanes;
    float *const x = memory, *const dy = x + blocks.spectrum, *const dx = dy + blocks.spectrum;
    const auto at = [&](float* spectra, i64 c) { return spectra + (c * blocks.count + block) * blocks.spectrum; };
    float* const own_sums = sums + span * blocks.spectra;
    const i64 begin = min(span * per_span, a.batch), end = min(begin + per_span, a.batch);
    if (filters && begin == end) {
      for (i64 c = 0; c < a.channels; c++)
        for (i64 i = 0; i < blocks.spectrum; i += kLanes) store(at(own_sums, c) + i, vf{});
    }
    for (i64 b = begin; b < end; b++) {
      if (filters) {
        conv_forward(a.x + b * a.length * a.xPitch + first, a.xPitch, a.length, features, a.points, a.table, x);
      }
      for (i64 c = 0; c < a.channels; c++) {
        conv_forward(a.dy + b * a.length * a.dyPitch + c * a.features + first, a.dyPitch, a.length, features, a.points, a.table, dy);
        if (filters && b == begin) filter_spectrum<true, false>(dy, x, at(own_sums, c), a.points, a.table);
        else if (filters) filter_spectrum<true, true>(dy, x, at(own_sums, c), a.points, a.table);
        if (a.dx == nullptr) continue;
        if (c == 0) filter_spectrum<true, false>(dy, at(a.work, c), dx, a.points, a.table);
        else filter_spectrum<true, true>(dy, at(a.work, c), dx, a.points, a.table);
      }
      if (a.dx == nullptr) continue;
      conv_inverse(dx, a.points, a.table, a.length, features, a.dx + b * a.length * a.features + first, a.features);
    }
  });
  if (!filters) return;
  const float scale = 0.25f / float(a.points);
  each_block(pool, a.channels * blocks.count, max(i64(1), kElementwiseGrain / (a.spans * blocks.spectrum)), [&](i64 begin_task, i64 end_task) {
    for (i64 task = begin_task; task < end_task; task++) {
      float* const z = sums + task * blocks.spectrum;
      for (i64 span = 1; span < a.spans; span++)
        for (i64 i = 0; i < blocks.spectrum; i += kLanes) store(z + i, load(z + i) + load(z + span * blocks.spectra + i));
      fft_inverse(z, a.points, a.table);
      const i64 block = task % blocks.count, features = blocks.size(block), filter = task / blocks.count * a.features + block * kLanes;
      if (a.dkernel != nullptr) fft_rows_of(z, kLanes, features, a.taps, scale, a.dkernel + filter * a.taps, a.taps);
      if (a.dD != nullptr) store_first(a.dD + filter, load(z) * scale, features);
      if (a.dreverseKernel != nullptr) {
        fft_rows_of(z + (2 * a.points - 1) * kLanes, -kLanes, features, a.reverseTaps, scale, a.dreverseKernel + filter * a.reverseTaps, a.reverseTaps);
      }
    }
  });
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
