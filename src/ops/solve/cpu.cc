// Small dense linear systems, in double precision.
#include "../../backend/cpu/native/kernel.h"

namespace elapid {
namespace ELAPID_TARGET {

// Right sides that are solved together.
constexpr i64 kRightSides = 32;

// Factors of a matrix whose rows were exchanged: L below the diagonal, without its ones, and U.
struct Factors {
  i64 size;
  double* values;
  // Which row of the matrix stands where.
  i64* order;

  ELAPID_INLINE double* row(i64 i) const { return values + i * size; }

  void factorise(const float* matrix, bool transposed) const {
    for (i64 i = 0; i < size; i++) {
      order[i] = i;
      for (i64 j = 0; j < size; j++) row(i)[j] = double(transposed ? matrix[j * size + i] : matrix[i * size + j]);
    }
    for (i64 k = 0; k < size; k++) {
      i64 pivot = k;
      for (i64 i = k + 1; i < size; i++) {
        const double own = row(i)[k], best = row(pivot)[k];
        if ((own < 0.0 ? -own : own) > (best < 0.0 ? -best : best)) pivot = i;
      }
      if (pivot != k) {
        for (i64 j = 0; j < size; j++) {
          const double kept = row(k)[j];
          row(k)[j] = row(pivot)[j];
          row(pivot)[j] = kept;
        }
        const i64 kept = order[k];
        order[k] = order[pivot];
        order[pivot] = kept;
      }
      const double* const own = row(k);
      const double inverse = 1.0 / own[k];
      for (i64 i = k + 1; i < size; i++) {
        double* const other = row(i);
        const double factor = other[k] * inverse;
        other[k] = factor;
        for (i64 j = k + 1; j < size; j++) other[j] -= factor * own[j];
      }
    }
  }

  // x −= factor·y of right sides.
  static ELAPID_INLINE void subtract(double* x, const double* y, double factor) {
    ELAPID_UNROLL
    for (i64 c = 0; c < kRightSides; c++) x[c] -= factor * y[c];
  }

  // Right sides in x, [size, kRightSides], in the order of the rows; their solutions replace them.
  void substitute(double* x) const {
    for (i64 i = 0; i < size; i++) {
      for (i64 k = 0; k < i; k++) subtract(x + i * kRightSides, x + k * kRightSides, row(i)[k]);
    }
    for (i64 i = size - 1; i >= 0; i--) {
      double* const own = x + i * kRightSides;
      for (i64 k = i + 1; k < size; k++) subtract(own, x + k * kRightSides, row(i)[k]);
      const double inverse = 1.0 / row(i)[i];
      for (i64 c = 0; c < kRightSides; c++) own[c] *= inverse;
    }
  }
};

void solve(const Solve& a, Pool& pool) {
  pool.each(a.count, [&](i64 system, int thread) {
    double* const values = pool.scratch<double>(thread);
    double* const x = values + a.size * a.size;
    const Factors factors{a.size, values, reinterpret_cast<i64*>(x + a.size * kRightSides)};
    factors.factorise(a.matrix + system * a.size * a.size, a.transposed);
    const float* const right = a.right + system * a.size * a.columns;
    float* const y = a.y + system * a.size * a.columns;
    for (i64 first = 0; first < a.columns; first += kRightSides) {
      const i64 count = min(kRightSides, a.columns - first);
      for (i64 i = 0; i < a.size; i++) {
        const float* const from = right + factors.order[i] * a.columns + first;
        for (i64 c = 0; c < kRightSides; c++) x[i * kRightSides + c] = c < count ? double(from[c]) : 0.0;
      }
      factors.substitute(x);
      for (i64 i = 0; i < a.size; i++) {
        for (i64 c = 0; c < count; c++) y[i * a.columns + first + c] = float(x[i * kRightSides + c]);
      }
    }
  });
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
