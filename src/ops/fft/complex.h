// The complex transform along sequences of features, and the tables of all.
#pragma once

namespace elapid {
namespace ELAPID_TARGET {

struct ComplexRows {
  const float *re, *im;
  i64 re_pitch, im_pitch;
  ELAPID_INLINE Complex get(i64 t) const { return {load(re + t * re_pitch), load(im + t * im_pitch)}; }
};

void fft(const Fft& a, Pool& pool) {
  const AnyTransform plan(a, a.length);
  const i64 blocks = ceil_div(a.features, i64(kLanes));
  plan.prepare(a.areas > 0 ? plan.areas : pool.scratch<float>(0));
  each_transform(pool, a.batch * blocks, a.size, a.areas, plan.areas, [&](i64 task, float* z) {
    const i64 first = task % blocks * kLanes, features = min(i64(kLanes), a.features - first), row = task / blocks * a.length;
    // With real and imaginary parts swapped before and after, a transform is the inverse one.
    const float *re = a.real + row * a.realPitch + first, *im = a.imaginary + row * a.imaginaryPitch + first;
    float *re_out = a.realOut + row * a.features + first, *im_out = a.imaginaryOut + row * a.features + first;
    i64 re_pitch = a.realPitch, im_pitch = a.imaginaryPitch;
    if (a.inverse) {
      const float* const x = re;
      re = im, im = x;
      float* const y = re_out;
      re_out = im_out, im_out = y;
      re_pitch = a.imaginaryPitch, im_pitch = a.realPitch;
    }
    if (features == kLanes && plan.direct()) {
      fft_forward_from(ComplexRows{re, im, re_pitch, im_pitch}, z, a.size, a.table);
    } else {
      for (i64 t = 0; t < a.length; t++) store_point(z + t * kPoint, {load_first(re + t * re_pitch, features), load_first(im + t * im_pitch, features)});
      plan.transform(z);
    }
    for (i64 k = 0; k < a.length; k++) {
      const Complex value = scaled(load_point(z + plan.place(k) * kPoint), a.scale);
      store_first(re_out + k * a.features, value.re, features);
      store_first(im_out + k * a.features, value.im, features);
    }
  });
}

// sin and cos of angles up to π/4, by their series in double precision.
ELAPID_INLINE void sine_and_cosine(double x, double& sine, double& cosine) {
  const double y = x * x;
  double s = 0, c = 0;
  ELAPID_UNROLL
  for (int i = 8; i >= 1; i--) {
    s = (s + 1) * -y * (1.0 / double(2 * i * (2 * i + 1)));
    c = (c + 1) * -y * (1.0 / double(2 * i * (2 * i - 1)));
  }
  sine = x * (s + 1);
  cosine = c + 1;
}

// Entries k … k + kLanes − 1 of a table over 2^bits ≥ 8: what is left of an eighth of a turn is exact, and the series are those of single precision.
ELAPID_INLINE void roots_of_power(i64 k, int bits, float* to) {
  vi turns;
  for (int l = 0; l < kLanes; l++) turns[l] = i32(k) + l;
  const vi eighth = turns >> (bits - 3) & 7, rest = turns & ((1 << (bits - 3)) - 1), odd = -(eighth & 1);
  const vi from_axis = (rest & ~odd) | (((1 << (bits - 3)) - rest) & odd);
  const vf x = __builtin_convertvector(from_axis, vf) * (0.78539816339744831f / float(1 << (bits - 3))), y = x * x;
  const vf sine = x + x * y * (-1.6666667e-1f + y * (8.3333333e-3f + y * (-1.9841270e-4f + y * 2.7557319e-6f)));
  const vf cosine = 1.0f + y * (-0.5f + y * (4.1666667e-2f + y * (-1.3888889e-3f + y * (2.4801587e-5f + y * -2.7557319e-7f))));
  const vi steep = ((eighth + 1) & 2) != 0;
  const vf re = steep ? sine : cosine, im = steep ? cosine : sine;
  const vi left = (eighth >= 2) & (eighth < 6), lower = eighth >= 4;
  const vf a = left ? -re : re, b = lower ? im : -im;
  store(to, interleave_lower(a, b));
  store(to + kLanes, interleave_upper(a, b));
}

void fft_table(const FftTable& a, Pool& pool) {
  const bool power = !a.squared && a.denominator >= 8 && a.denominator <= i64(1) << 30 && (a.denominator & (a.denominator - 1)) == 0;
  each_block(pool, a.count, 8192, [&](i64 begin, i64 end) {
    i64 k = begin;
    if (power)
      for (const int bits = __builtin_ctzll(a.denominator); k + kLanes <= end; k += kLanes) roots_of_power(k, bits, a.table + 2 * k);
    for (; k < end; k++) {
      const i64 turns = a.squared ? k % a.denominator * k % a.denominator : k % a.denominator;
      // An eighth of a turn and what is left of it; odd ones are measured from their end.
      const i64 eighth = 8 * turns / a.denominator, rest = 8 * turns - eighth * a.denominator;
      const bool odd = eighth % 2 == 1;
      double sine, cosine;
      sine_and_cosine(0.78539816339744830962 * double(odd ? a.denominator - rest : rest) / double(a.denominator), sine, cosine);
      // Eighths 1, 2, 5 and 6 are nearer to the imaginary axis.
      const bool steep = (eighth + 1) / 2 % 2 == 1;
      const double re = steep ? sine : cosine, im = steep ? cosine : sine;
      a.table[2 * k] = float(eighth >= 2 && eighth < 6 ? -re : re);
      a.table[2 * k + 1] = float(eighth < 4 ? -im : im);
    }
  });
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
