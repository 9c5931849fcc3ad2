// Real sequences and their spectra, rows side by side. An even number of reals is transformed as half as many complex numbers.
#pragma once

namespace elapid {
namespace ELAPID_TARGET {

// `length` is the number of reals.
ELAPID_INLINE float weight_of(float interior, float ends, i64 length, i64 k) { return k == 0 || 2 * k == length ? ends : interior; }

void rfft(const Rfft& a, Pool& pool) {
  const AnyTransform plan(a, a.points);
  const i64 frequencies = a.length / 2 + 1, n = a.points;
  each_rows(plan, pool, a.rows, a.areas, [&](i64 row, i64 rows, float* z) {
    float* const other = z + a.size * kPoint;
    const auto put = [&](i64 k, Complex value, float factor) {
      store_point(other + k * kPoint, scaled(value, factor * weight_of(a.interior, a.ends, a.length, k)));
    };
    if (a.half == nullptr) {
      fft_lanes_of(a.x + row * a.xPitch, a.xPitch, rows, n, 1.0f, other);
      for (i64 t = 0; t < n; t++) store_point(z + t * kPoint, {load(other + t * kLanes), vf{}});
      plan.transform(z);
      for (i64 k = 0; k < frequencies; k++) put(k, load_point(z + plan.place(k) * kPoint), 1.0f);
    } else {
      fft_lanes_of(a.x + row * a.xPitch, a.xPitch, rows, a.length, 1.0f, z);
      plan.transform(z);
      for (i64 k = 0; 2 * k <= n; k++) {
        const i64 partner = k == 0 ? 0 : n - k;
        const HalfSpectra x = halves(load_point(z + plan.place(k) * kPoint), load_point(z + plan.place(partner) * kPoint));
        const Complex odd = x.odd * entry(a.half, k);
        put(k, x.even + odd, 0.5f);
        put(n - k, conjugate(x.even - odd), 0.5f);
      }
    }
    fft_rows_of(other, kLanes, rows, 2 * frequencies, 1.0f, a.spectrum + row * 2 * frequencies, 2 * frequencies);
  });
}

void irfft(const Irfft& a, Pool& pool) {
  const AnyTransform plan(a, a.points);
  const i64 frequencies = a.length / 2 + 1, n = a.points;
  each_rows(plan, pool, a.rows, a.areas, [&](i64 row, i64 rows, float* z) {
    float* const other = z + a.size * kPoint;
    fft_lanes_of(a.spectrum + row * 2 * frequencies, 2 * frequencies, rows, 2 * frequencies, 1.0f, other);
    // Half of a frequency's weight is its conjugate's.
    const auto get = [&](i64 k) -> Complex {
      const Complex value = load_point(other + k * kPoint);
      if (k == 0 || 2 * k == a.length) return {value.re * a.ends, vf{}};
      return scaled(value, 0.5f * a.interior);
    };
    // With real and imaginary parts swapped before and after, a transform is the inverse one.
    const auto put = [&](i64 k, Complex value) { store_point(z + k * kPoint, swapped(value)); };
    if (a.half == nullptr) {
      put(0, get(0));
      for (i64 k = 1; k < frequencies; k++) {
        put(k, get(k));
        put(n - k, conjugate(get(k)));
      }
      plan.transform(z);
      for (i64 t = 0; t < n; t++) store(other + t * kLanes, load_point(z + plan.place(t) * kPoint).im);
    } else {
      for (i64 k = 0; 2 * k <= n; k++) {
        const Complex x = get(k), partner = conjugate(get(n - k));
        const Complex even = x + partner, odd = (x - partner) * conjugate(entry(a.half, k));
        put(k, even + times_i(odd));
        if (k > 0) put(n - k, conjugate(even) + times_i(conjugate(odd)));
      }
      plan.transform(z);
      for (i64 t = 0; t < n; t++) store_point(other + t * kPoint, swapped(load_point(z + plan.place(t) * kPoint)));
    }
    fft_rows_of(other, kLanes, rows, a.length, 1.0f, a.y + row * a.length, a.length);
  });
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
