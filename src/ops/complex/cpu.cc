// ComplexDouble numbers, element by element.
#include "../../backend/cpu/native/complex.h"
#include "../../backend/cpu/native/kernel.h"

namespace elapid {
namespace ELAPID_TARGET {

enum ComplexFunction { kComplexReciprocal, kComplexPhi };

void complex_multiply(const ComplexMultiply& a, Pool& pool) {
  const float sign = a.conjugate ? -1.0f : 1.0f;
  each_block(pool, a.rows * a.columns, kElementwiseGrain / 4, [&](i64 begin, i64 end) {
    for (i64 i = begin; i < end;) {
      // A run within a row.
      const i64 row = i / a.columns, column = i % a.columns, count = min(end - i, a.columns - column);
      const float *const x = a.x + 2 * i, *const y = a.y + 2 * (row * a.yRow + column);
      float* const z = a.z + 2 * i;
      for (i64 j = 0; j < count; j++) {
        const float xr = x[2 * j], xi = x[2 * j + 1], yr = y[2 * j], yi = sign * y[2 * j + 1];
        z[2 * j] = xr * yr - xi * yi;
        z[2 * j + 1] = xr * yi + xi * yr;
      }
      i += count;
    }
  });
}

void complex_unary(const ComplexUnary& a, Pool& pool) {
  each_block(pool, a.count, 512, [&](i64 begin, i64 end) {
    for (i64 i = begin; i < end; i++) {
      ComplexDouble x = complex_at(a.x, i);
      if (a.function == kComplexPhi) {
        put_complex(a.y, i, phi_complex(x).value);
        continue;
      }
      x.re += a.shift;
      put_complex(a.y, i, conjugate(x) * (1.0 / (x.re * x.re + x.im * x.im + a.epsilon)));
    }
  });
}

void complex_unary_backward(const ComplexUnaryBackward& a, Pool& pool) {
  each_block(pool, a.count, 512, [&](i64 begin, i64 end) {
    for (i64 i = begin; i < end; i++) {
      ComplexDouble x = complex_at(a.x, i);
      const ComplexDouble d = complex_at(a.dy, i);
      if (a.function == kComplexPhi) {
        put_complex(a.dx, i, d * conjugate(phi_complex(x).slope));
        continue;
      }
      x.re += a.shift;
      const double below = 1.0 / (x.re * x.re + x.im * x.im + a.epsilon), along = 2.0 * (d.re * x.re - d.im * x.im) * below;
      put_complex(a.dx, i, {(d.re - along * x.re) * below, (-d.im - along * x.im) * below});
    }
  });
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
