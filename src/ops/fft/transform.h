// Complex transforms of 2^m points, of kLanes sequences side by side: no step moves numbers between lanes. They are done in place, by depth: a pass
// over all points makes parts that are then transformed one after the other, so that parts that fit a cache are worked on in it.
#pragma once

namespace elapid {
namespace ELAPID_TARGET {

struct Complex {
  vf re, im;
};

// Floats of a point: its real parts, then its imaginary ones.
constexpr i64 kPoint = 2 * kLanes;

ELAPID_INLINE Complex load_point(const float* z) { return {load(z), load(z + kLanes)}; }
ELAPID_INLINE void store_point(float* z, Complex a) {
  store(z, a.re);
  store(z + kLanes, a.im);
}
ELAPID_INLINE Complex operator+(Complex a, Complex b) { return {a.re + b.re, a.im + b.im}; }
ELAPID_INLINE Complex operator-(Complex a, Complex b) { return {a.re - b.re, a.im - b.im}; }
ELAPID_INLINE Complex operator*(Complex a, Complex b) { return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re}; }
ELAPID_INLINE Complex conjugate(Complex a) { return {a.re, -a.im}; }
ELAPID_INLINE Complex times_i(Complex a) { return {-a.im, a.re}; }
ELAPID_INLINE Complex swapped(Complex a) { return {a.im, a.re}; }
ELAPID_INLINE Complex scaled(Complex a, float s) { return {a.re * s, a.im * s}; }
// A number of a table, the same for all lanes.
ELAPID_INLINE Complex entry(const float* table, i64 k) { return {splat(table[2 * k]), splat(table[2 * k + 1])}; }

// a·w or a·conj(w)
template <bool kInverse>
ELAPID_INLINE Complex turned(Complex a, const float* w) {
  if constexpr (kInverse) return {a.re * w[0] + a.im * w[1], a.im * w[0] - a.re * w[1]};
  return {a.re * w[0] - a.im * w[1], a.re * w[1] + a.im * w[0]};
}

// a·(−i), or a·i in inverse transforms.
template <bool kInverse>
ELAPID_INLINE Complex quarter(Complex a) {
  if constexpr (kInverse) return {-a.im, a.re};
  return {a.im, -a.re};
}

// Which frequency, modulo kRadix, is at a place of a butterfly: bits in reverse.
template <int kRadix>
constexpr int frequency_at(int place) {
  int k = 0;
  for (int bit = 1; bit < kRadix; bit *= 2) k = 2 * k + (place / bit) % 2;
  return k;
}

constexpr float kHalfRoot = 0.70710678118654752f;

// The transform of kRadix points in registers, from times to frequencies in bit-reversed order.
template <int kRadix>
ELAPID_INLINE void butterfly(Complex* a) {
  if constexpr (kRadix == 2) {
    const Complex sum = a[0] + a[1];
    a[1] = a[0] - a[1];
    a[0] = sum;
  } else if constexpr (kRadix == 4) {
    const Complex s0 = a[0] + a[2], s1 = a[0] - a[2], s2 = a[1] + a[3], s3 = quarter<false>(a[1] - a[3]);
    a[0] = s0 + s2;
    a[1] = s0 - s2;
    a[2] = s1 + s3;
    a[3] = s1 - s3;
  } else {
    ELAPID_UNROLL
    for (int i = 0; i < 4; i++) {
      const Complex sum = a[i] + a[i + 4];
      a[i + 4] = a[i] - a[i + 4];
      a[i] = sum;
    }
    // By the powers of (1 − i)/√2.
    a[5] = {(a[5].re + a[5].im) * kHalfRoot, (a[5].im - a[5].re) * kHalfRoot};
    a[6] = quarter<false>(a[6]);
    a[7] = {(a[7].im - a[7].re) * kHalfRoot, (a[7].re + a[7].im) * -kHalfRoot};
    butterfly<4>(a);
    butterfly<4>(a + 4);
  }
}

// Its inverse, times kRadix: from bit-reversed frequencies to times.
template <int kRadix>
ELAPID_INLINE void inverse_butterfly(Complex* a) {
  if constexpr (kRadix == 2) {
    butterfly<2>(a);
  } else if constexpr (kRadix == 4) {
    const Complex s0 = a[0] + a[1], s1 = a[2] + a[3], s2 = a[0] - a[1], s3 = quarter<true>(a[2] - a[3]);
    a[0] = s0 + s1;
    a[1] = s2 + s3;
    a[2] = s0 - s1;
    a[3] = s2 - s3;
  } else {
    inverse_butterfly<4>(a);
    inverse_butterfly<4>(a + 4);
    a[5] = {(a[5].re - a[5].im) * kHalfRoot, (a[5].im + a[5].re) * kHalfRoot};
    a[6] = quarter<true>(a[6]);
    a[7] = {(a[7].re + a[7].im) * -kHalfRoot, (a[7].re - a[7].im) * kHalfRoot};
    ELAPID_UNROLL
    for (int i = 0; i < 4; i++) {
      const Complex sum = a[i] + a[i + 4];
      a[i + 4] = a[i] - a[i + 4];
      a[i] = sum;
    }
  }
}

// Where points come from and go to: memory of the transform.
struct InPlace {
  float* z;
  ELAPID_INLINE Complex get(i64 m) const { return load_point(z + m * kPoint); }
  ELAPID_INLINE void put(i64 m, Complex a) const { store_point(z + m * kPoint, a); }
};

// A pass of a transform of n points: makes kRadix parts of n/kRadix points. Numbers of the table are `stride` apart.
template <int kRadix, bool kInverse, class From, class To>
ELAPID_NOINLINE inline void fft_pass(From from, To to, i64 n, const float* table, i64 stride) {
  const i64 part = n / kRadix;
  for (i64 j = 0; j < part; j++) {
    Complex a[kRadix];
    ELAPID_UNROLL
    for (int i = 0; i < kRadix; i++) {
      a[i] = from.get(j + i * part);
      if (kInverse && i > 0) a[i] = turned<true>(a[i], table + 2 * j * frequency_at<kRadix>(i) * stride);
    }
    if constexpr (kInverse) inverse_butterfly<kRadix>(a);
    else butterfly<kRadix>(a);
    ELAPID_UNROLL
    for (int i = 0; i < kRadix; i++) {
      if (!kInverse && i > 0) a[i] = turned<false>(a[i], table + 2 * j * frequency_at<kRadix>(i) * stride);
      to.put(j + i * part, a[i]);
    }
  }
}

// Transforms of kRadix points, `count` one after the other.
template <int kRadix, bool kInverse>
ELAPID_INLINE void fft_leaves(float* z, i64 count) {
  for (i64 c = 0; c < count; c++, z += kRadix * kPoint) {
    Complex a[kRadix];
    ELAPID_UNROLL
    for (int i = 0; i < kRadix; i++) a[i] = load_point(z + i * kPoint);
    if constexpr (kInverse) inverse_butterfly<kRadix>(a);
    else butterfly<kRadix>(a);
    ELAPID_UNROLL
    for (int i = 0; i < kRadix; i++) store_point(z + i * kPoint, a[i]);
  }
}

// Radix 8 needs the registers of AVX-512. Either way the last parts have 2, 4 or 8 points.
ELAPID_INLINE i64 fft_radix(i64 n) { return kLanes == 16 && __builtin_ctzll(n) % 3 == 0 ? 8 : 4; }

template <bool kInverse, class From, class To>
ELAPID_INLINE void fft_any_pass(From from, To to, i64 n, const float* table, i64 stride) {
  if constexpr (kLanes == 16) {
    if (fft_radix(n) == 8) return fft_pass<8, kInverse>(from, to, n, table, stride);
  }
  fft_pass<4, kInverse>(from, to, n, table, stride);
}

// `count` transforms of n points, one after the other.
template <bool kInverse>
void fft_parts(float* z, i64 count, i64 n, const float* table, i64 stride) {
  if (n == 8) return fft_leaves<8, kInverse>(z, count);
  if (n == 4) return fft_leaves<4, kInverse>(z, count);
  if (n == 2) return fft_leaves<2, kInverse>(z, count);
  if (n == 1) return;
  const i64 radix = fft_radix(n), part = n / radix;
  for (i64 c = 0; c < count; c++, z += n * kPoint) {
    if constexpr (kInverse) fft_parts<true>(z, radix, part, table, stride * radix);
    fft_any_pass<kInverse>(InPlace{z}, InPlace{z}, n, table, stride);
    if constexpr (!kInverse) fft_parts<false>(z, radix, part, table, stride * radix);
  }
}

// z[k] = Σₜ z[t]·e^{−2πikt/n}, with k where reversed_bits says. `table` has n entries e^{−2πik/n}.
ELAPID_INLINE void fft_forward(float* z, i64 n, const float* table) { fft_parts<false>(z, 1, n, table, 1); }
// Its inverse, times n.
ELAPID_INLINE void fft_inverse(float* z, i64 n, const float* table) { fft_parts<true>(z, 1, n, table, 1); }

// The same from elsewhere into z, and the inverse from z to elsewhere: the first pass reads, the last one writes there.
template <class From>
ELAPID_INLINE void fft_forward_from(From from, float* z, i64 n, const float* table) {
  if (n <= 8) {
    for (i64 m = 0; m < n; m++) store_point(z + m * kPoint, from.get(m));
    return fft_forward(z, n, table);
  }
  const i64 radix = fft_radix(n);
  fft_any_pass<false>(from, InPlace{z}, n, table, 1);
  fft_parts<false>(z, radix, n / radix, table, radix);
}
template <class To>
ELAPID_INLINE void fft_inverse_into(float* z, To to, i64 n, const float* table) {
  if (n <= 8) {
    fft_inverse(z, n, table);
    for (i64 m = 0; m < n; m++) to.put(m, load_point(z + m * kPoint));
    return;
  }
  const i64 radix = fft_radix(n);
  fft_parts<true>(z, radix, n / radix, table, radix);
  fft_any_pass<true>(InPlace{z}, to, n, table, 1);
}

// The last `bits` bits of k, in reverse.
ELAPID_INLINE i64 reversed_bits(i64 k, int bits) {
  if (bits == 0) return 0;
  u32 x = u32(k);
  x = (x >> 1 & 0x55555555u) | (x & 0x55555555u) << 1;
  x = (x >> 2 & 0x33333333u) | (x & 0x33333333u) << 2;
  x = (x >> 4 & 0x0f0f0f0fu) | (x & 0x0f0f0f0fu) << 4;
  x = (x >> 8 & 0x00ff00ffu) | (x & 0x00ff00ffu) << 8;
  x = x >> 16 | x << 16;
  return i64(x >> (32 - bits));
}

// Blocks of rows or features: tasks, each with memory for three transforms of `points` points. Where the memory of a thread is too small, there
// are `areas` of them in `memory`, and as many tasks are worked on at the same time.
template <class F>
ELAPID_INLINE void each_transform(Pool& pool, i64 tasks, i64 points, i64 areas, float* memory, F f) {
  if (areas > 0) {
    pool.each(min(areas, tasks), [&](i64 area, int) {
      for (i64 task = area; task < tasks; task += areas) f(task, memory + area * 3 * points * 2 * 16);
    });
    return;
  }
  const i64 grain = max(i64(1), kElementwiseGrain / (points * kPoint));
  pool.each(ceil_div(tasks, grain), [&](i64 group, int thread) {
    for (i64 task = group * grain; task < min((group + 1) * grain, tasks); task++) f(task, pool.scratch<float>(thread));
  });
}

// to[j·kLanes + i] = scale·x[i·pitch + j] for up to kLanes rows, and 0 in the other lanes.
ELAPID_NOINLINE inline void fft_lanes_of(const float* x, i64 pitch, i64 rows, i64 columns, float scale, float* to) {
  for (i64 j = 0; j < columns; j += kLanes) {
    const i64 n = min(columns - j, i64(kLanes));
    vf square[kLanes];
    for (int l = 0; l < kLanes; l++) square[l] = l < rows ? load_first(x + l * pitch + j, n) * scale : vf{};
    transpose(square);
    for (int l = 0; l < n; l++) store(to + (j + l) * kLanes, square[l]);
  }
}

// The way back: x[i·pitch + j] = scale·from[j·step + i]; `step` may be negative.
ELAPID_NOINLINE inline void fft_rows_of(const float* from, i64 step, i64 rows, i64 columns, float scale, float* x, i64 pitch) {
  for (i64 j = 0; j < columns; j += kLanes) {
    const i64 n = min(columns - j, i64(kLanes));
    vf square[kLanes];
    for (int l = 0; l < kLanes; l++) square[l] = l < n ? load(from + (j + l) * step) * scale : vf{};
    transpose(square);
    for (int l = 0; l < min(rows, i64(kLanes)); l++) store_first(x + l * pitch + j, square[l], n);
  }
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
