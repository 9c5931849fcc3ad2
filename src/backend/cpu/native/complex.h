// ComplexDouble numbers in double precision, one at a time: for what is worked out once a state, where float32 would lose the digits of long sequences.
#pragma once
#include "simd.h"

namespace elapid {
namespace ELAPID_TARGET {

struct ComplexDouble {
  double re = 0.0, im = 0.0;
};

ELAPID_INLINE ComplexDouble complex_at(const float* p, i64 i) { return {double(p[2 * i]), double(p[2 * i + 1])}; }
ELAPID_INLINE void put_complex(float* p, i64 i, ComplexDouble z) {
  p[2 * i] = float(z.re);
  p[2 * i + 1] = float(z.im);
}
ELAPID_INLINE ComplexDouble conjugate(ComplexDouble z) { return {z.re, -z.im}; }
ELAPID_INLINE ComplexDouble operator+(ComplexDouble a, ComplexDouble b) { return {a.re + b.re, a.im + b.im}; }
ELAPID_INLINE ComplexDouble operator-(ComplexDouble a, ComplexDouble b) { return {a.re - b.re, a.im - b.im}; }
ELAPID_INLINE ComplexDouble operator*(ComplexDouble a, ComplexDouble b) { return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re}; }
ELAPID_INLINE ComplexDouble operator*(ComplexDouble a, double b) { return {a.re * b, a.im * b}; }
ELAPID_INLINE ComplexDouble inverse(ComplexDouble z) {
  const double below = 1.0 / (z.re * z.re + z.im * z.im);
  return {z.re * below, -z.im * below};
}

ELAPID_INLINE double nearest(double x) { return double(i64(x + (x < 0.0 ? -0.5 : 0.5))); }

// e^x, to the last digits or so; x is clamped to ±700. Taylor's series of the rest after whole powers of 2.
inline double exp_double(double x) {
  if (x != x) return x;
  x = x < -700.0 ? -700.0 : x > 700.0 ? 700.0 : x;
  const double n = nearest(x * 1.4426950408889634074);
  const double r = (x - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;
  double sum = 1.0;
  for (int k = 14; k >= 1; k--) sum = 1.0 + sum * r / double(k);
  const i64 bits = (i64(n) + 1023) << 52;
  double power;
  __builtin_memcpy(&power, &bits, sizeof power);
  return sum * power;
}

// cos x + i·sin x, to the last digits or so for |x| < 10⁶; beyond, what is left of x's digits.
inline ComplexDouble turn_double(double x) {
  if (!(x > -1e15 && x < 1e15)) return {__builtin_nan(""), __builtin_nan("")};
  const double n = nearest(x * 0.63661977236758134308);
  const double r = (x - n * 1.57079632673412561417e+00) - n * 6.07710050650619224932e-11, z = r * r;
  double sine = 1.0, cosine = 1.0;
  for (int k = 8; k >= 1; k--) {
    sine = 1.0 - sine * z / double(2 * k * (2 * k + 1));
    cosine = 1.0 - cosine * z / double(2 * k * (2 * k - 1));
  }
  sine *= r;
  switch (i64(n) & 3) {
    case 0: return {cosine, sine};
    case 1: return {-sine, cosine};
    case 2: return {-cosine, -sine};
    default: return {sine, -cosine};
  }
}

inline ComplexDouble exp_complex(ComplexDouble z) { return turn_double(z.im) * exp_double(z.re); }

// (e^z − 1) / z and its derivative: within the unit circle by their series, where the differences would cancel.
struct Phi {
  ComplexDouble value, slope;
};
inline Phi phi_complex(ComplexDouble z) {
  if (z.re * z.re + z.im * z.im < 1.0) {
    // 1 + z/2·(1 + z/3·(1 + …)), and Σ (k + 1)·zᵏ / (k + 2)!.
    ComplexDouble value{1.0, 0.0}, slope, power{1.0, 0.0};
    for (int k = 18; k >= 2; k--) value = ComplexDouble{1.0, 0.0} + value * z * (1.0 / double(k));
    double factorial = 1.0;
    for (int k = 0; k < 18; k++) {
      factorial *= double(k + 1);
      slope = slope + power * (double(k + 1) / (factorial * double(k + 2)));
      power = power * z;
    }
    return {value, slope};
  }
  const ComplexDouble e = exp_complex(z), under = inverse(z), value = (e - ComplexDouble{1.0, 0.0}) * under;
  return {value, (e - value) * under};
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
