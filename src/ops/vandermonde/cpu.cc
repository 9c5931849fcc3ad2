// Products with Vandermonde matrices. Powers are double: the error of a power's base would grow with the exponent.
#include "../../backend/cpu/native/complex.h"
#include "../../backend/cpu/native/kernel.h"

namespace elapid {
namespace ELAPID_TARGET {

// Powers side by side: neighbouring exponents.
constexpr int kPowers = 8;

// The numbers eᵃ or (1 + a/2)/(1 − a/2) to the power 0 … kPowers − 1, and the step to the next kPowers.
struct Powers {
  double re[kPowers], im[kPowers];
  ComplexDouble step{1.0, 0.0};

  Powers(const float* a, i64 i, bool bilinear) {
    const ComplexDouble z = complex_at(a, i), half = z * 0.5, one{1.0, 0.0};
    const ComplexDouble base = bilinear ? (one + half) * inverse(one - half) : exp_complex(z);
    for (int j = 0; j < kPowers; j++) {
      re[j] = step.re;
      im[j] = step.im;
      step = step * base;
    }
  }

  ELAPID_INLINE void next() {
    ELAPID_UNROLL
    for (int j = 0; j < kPowers; j++) {
      const double r = re[j] * step.re - im[j] * step.im;
      im[j] = re[j] * step.im + im[j] * step.re;
      re[j] = r;
    }
  }
};

void vandermonde(const Vandermonde& a, Pool& pool) {
  pool.each(a.features, [&](i64 h, int) {
    for (i64 r = 0; r < a.rows; r++) {
      float* const y = a.y + (r * a.features + h) * a.length;
      for (i64 l = 0; l < a.length; l++) y[l] = 0.0f;
    }
    for (i64 n = 0; n < a.states; n++) {
      Powers powers(a.a, h * a.states + n, a.bilinear);
      for (i64 l = 0; l < a.length; l += kPowers, powers.next()) {
        const i64 count = min(i64(kPowers), a.length - l);
        for (i64 r = 0; r < a.rows; r++) {
          const i64 row = r * a.features + h;
          const ComplexDouble w = complex_at(a.w, row * a.states + n);
          float* const y = a.y + row * a.length + l;
          if (count == kPowers) {
            ELAPID_UNROLL
            for (int j = 0; j < kPowers; j++) y[j] += float(powers.re[j] * w.re - powers.im[j] * w.im);
          } else {
            for (i64 j = 0; j < count; j++) y[j] += float(powers.re[j] * w.re - powers.im[j] * w.im);
          }
        }
      }
    }
  });
}

// Σ dy·Āˡ and Σ l·dy·Āˡ of one state and row.
struct PowerSums {
  ComplexDouble sum, by_place;

  PowerSums(Powers powers, const float* dy, i64 length) {
    double re[kPowers] = {}, im[kPowers] = {}, place_re[kPowers] = {}, place_im[kPowers] = {};
    i64 l = 0;
    for (; l + kPowers <= length; l += kPowers, powers.next()) {
      ELAPID_UNROLL
      for (int j = 0; j < kPowers; j++) {
        const double d = double(dy[l + j]), place = d * double(l + j);
        re[j] += d * powers.re[j];
        im[j] += d * powers.im[j];
        place_re[j] += place * powers.re[j];
        place_im[j] += place * powers.im[j];
      }
    }
    for (i64 j = 0; l + j < length; j++) {
      const double d = double(dy[l + j]), place = d * double(l + j);
      re[j] += d * powers.re[j];
      im[j] += d * powers.im[j];
      place_re[j] += place * powers.re[j];
      place_im[j] += place * powers.im[j];
    }
    for (int j = 0; j < kPowers; j++) {
      sum = sum + ComplexDouble{re[j], im[j]};
      by_place = by_place + ComplexDouble{place_re[j], place_im[j]};
    }
  }
};

void vandermonde_backward(const VandermondeBackward& a, Pool& pool) {
  pool.each(a.features, [&](i64 h, int) {
    for (i64 n = 0; n < a.states; n++) {
      const i64 i = h * a.states + n;
      const Powers powers(a.a, i, a.bilinear);
      ComplexDouble total;
      for (i64 r = 0; r < a.rows; r++) {
        const i64 row = r * a.features + h, j = row * a.states + n;
        const PowerSums sums(powers, a.dy + row * a.length, a.length);
        if (a.dw != nullptr) put_complex(a.dw, j, conjugate(sums.sum));
        total = total + complex_at(a.w, j) * sums.by_place;
      }
      if (a.da == nullptr) continue;
      const ComplexDouble z = complex_at(a.a, i);
      // d ln Ā / da
      if (a.bilinear) total = total * inverse(ComplexDouble{1.0, 0.0} - z * z * 0.25);
      put_complex(a.da, i, conjugate(total));
    }
  });
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
