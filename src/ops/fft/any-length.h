// Transforms of any length: of 2^m points directly, of others as a convolution (Bluestein): with c_k = e^{−πik²/N},
// X_k = c_k Σₜ (x_t c_t) conj(c_{k−t}), by transforms of `size` ≥ 2N − 1 points.
#pragma once

namespace elapid {
namespace ELAPID_TARGET {

struct AnyTransform {
  i64 points, size;
  const float *table, *chirp;
  float* filter;  // the spectrum of conj(c), a number a point
  float* areas;

  bool direct() const { return points == size; }

  template <class Args>
  AnyTransform(const Args& a, i64 points) : points(points), size(a.size), table(a.table), chirp(a.chirp), filter(a.work) {
    areas = a.work + (direct() ? 0 : 2 * size);
  }

  // Makes the filter, in memory for a transform.
  void prepare(float* z) const {
    if (direct()) return;
    for (i64 i = 0; i < size; i++) store_point(z + i * kPoint, Complex{});
    for (i64 k = 0; k < points; k++) {
      const Complex c = scaled(conjugate(entry(chirp, k)), 1.0f / float(size));
      store_point(z + k * kPoint, c);
      if (k > 0) store_point(z + (size - k) * kPoint, c);
    }
    fft_forward(z, size, table);
    for (i64 i = 0; i < size; i++) {
      filter[2 * i] = z[i * kPoint];
      filter[2 * i + 1] = z[i * kPoint + kLanes];
    }
  }

  // Where frequency k lies after `transform`.
  ELAPID_INLINE i64 place(i64 k) const { return direct() ? reversed_bits(k, __builtin_ctzll(size)) : k; }

  ELAPID_NOINLINE void transform(float* z) const {
    if (direct()) return fft_forward(z, size, table);
    each_chirp(z);
    for (i64 i = points; i < size; i++) store_point(z + i * kPoint, Complex{});
    fft_forward(z, size, table);
    for (i64 i = 0; i < size; i++) store_point(z + i * kPoint, load_point(z + i * kPoint) * entry(filter, i));
    fft_inverse(z, size, table);
    each_chirp(z);
  }

  ELAPID_INLINE void each_chirp(float* z) const {
    for (i64 k = 0; k < points; k++) store_point(z + k * kPoint, load_point(z + k * kPoint) * entry(chirp, k));
  }
};

// Calls f(first row, rows, memory) for blocks of rows.
template <class F>
ELAPID_INLINE void each_rows(const AnyTransform& plan, Pool& pool, i64 rows, i64 areas, F f) {
  plan.prepare(areas > 0 ? plan.areas : pool.scratch<float>(0));
  each_transform(pool, ceil_div(rows, i64(kLanes)), plan.size, areas, plan.areas, [&](i64 task, float* memory) {
    f(task * kLanes, min(i64(kLanes), rows - task * kLanes), memory);
  });
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
