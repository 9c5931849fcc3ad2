// Products with Cauchy matrices. Denominators are double: near a resonance they are differences.
#include "../../backend/cpu/native/complex.h"
#include "../../backend/cpu/native/kernel.h"

namespace elapid {
namespace ELAPID_TARGET {

constexpr i64 kNodes = 128;

// Sines and cosines of a block of nodes, and what rows are multiplied by.
struct Nodes {
  double sine[kNodes], cosine[kNodes];
  i64 first, count;
  bool weighted;

  template <class Args>
  Nodes(const Args& a, i64 begin) : first(begin), count(min(kNodes, a.nodes - begin)), weighted(a.cosine) {
    const double unit = 1.57079632679489661923 / double(a.length);
    for (i64 k = 0; k < count; k++) {
      sine[k] = turn_double(double(2 * (first + k)) * unit).im;
      cosine[k] = turn_double(double(a.length - 2 * (first + k)) * unit).im;
    }
  }

  ELAPID_INLINE ComplexDouble factor(i64 k) const {
    return weighted ? ComplexDouble{cosine[k], 0.0} : ComplexDouble{0.5 * cosine[k], 0.5 * sine[k]};
  }
};

// What a pole makes of a block of nodes: near = 1/(i·sin − cos·a/2) and far, the same of ā, as sums and differences of their parts. Rows share it.
struct Pole {
  double both_re[kNodes], both_im[kNodes], apart_re[kNodes], apart_im[kNodes];
  // The same of cos·near² and cos·far², for the slope.
  double square_both_re[kNodes], square_both_im[kNodes], square_apart_re[kNodes], square_apart_im[kNodes];

  template <bool kSquares>
  ELAPID_INLINE void set(const Nodes& nodes, ComplexDouble rate) {
    for (i64 k = 0; k < nodes.count; k++) {
      const double x = -nodes.cosine[k] * rate.re, shift = nodes.cosine[k] * rate.im;
      const double y = nodes.sine[k] - shift, z = nodes.sine[k] + shift;
      const double near = 1.0 / (x * x + y * y), far = 1.0 / (x * x + z * z);
      const double nx = x * near, ny = y * near, fx = x * far, fz = z * far;
      both_re[k] = nx + fx;
      both_im[k] = ny + fz;
      apart_re[k] = nx - fx;
      apart_im[k] = ny - fz;
      if (!kSquares) continue;
      const double near_re = nx * nx - ny * ny, near_im = 2.0 * nx * ny, far_re = fx * fx - fz * fz, far_im = 2.0 * fx * fz, c = nodes.cosine[k];
      square_both_re[k] = c * (near_re + far_re);
      square_both_im[k] = c * (near_im + far_im);
      square_apart_re[k] = c * (near_re - far_re);
      square_apart_im[k] = c * (near_im - far_im);
    }
  }
};

void cauchy(const Cauchy& a, Pool& pool) {
  pool.each(a.features, [&](i64 h, int thread) {
    double* const sums = pool.scratch<double>(thread);
    Pole pole;
    for (i64 first = 0; first < a.nodes; first += kNodes) {
      const Nodes nodes(a, first);
      for (i64 i = 0; i < 2 * kNodes * a.rows; i++) sums[i] = 0.0;
      for (i64 n = 0; n < a.states; n++) {
        pole.set<false>(nodes, complex_at(a.a, h * a.states + n) * 0.5);
        for (i64 r = 0; r < a.rows; r++) {
          const ComplexDouble v = complex_at(a.v, (r * a.features + h) * a.states + n);
          double *const re = sums + 2 * kNodes * r, *const im = re + kNodes;
          for (i64 k = 0; k < nodes.count; k++) {
            re[k] += v.re * pole.both_re[k] + v.im * pole.apart_im[k];
            im[k] += v.im * pole.apart_re[k] - v.re * pole.both_im[k];
          }
        }
      }
      for (i64 r = 0; r < a.rows; r++) {
        const double *const re = sums + 2 * kNodes * r, *const im = re + kNodes;
        for (i64 k = 0; k < nodes.count; k++) put_complex(a.y, (r * a.features + h) * a.nodes + first + k, nodes.factor(k) * ComplexDouble{re[k], im[k]});
      }
    }
  });
}

// Σ x·re − y·im over whole blocks of nodes: eight sums side by side.
ELAPID_INLINE double difference_of_products(const double* x, const double* re, const double* y, const double* im) {
  double total[8] = {};
  for (i64 k = 0; k < kNodes; k += 8) {
    ELAPID_UNROLL
    for (int j = 0; j < 8; j++) total[j] += x[k + j] * re[k + j] - y[k + j] * im[k + j];
  }
  return ((total[0] + total[1]) + (total[2] + total[3])) + ((total[4] + total[5]) + (total[6] + total[7]));
}

ELAPID_INLINE double sum_of_products(const double* x, const double* re, const double* y, const double* im) {
  double total[8] = {};
  for (i64 k = 0; k < kNodes; k += 8) {
    ELAPID_UNROLL
    for (int j = 0; j < 8; j++) total[j] += x[k + j] * re[k + j] + y[k + j] * im[k + j];
  }
  return ((total[0] + total[1]) + (total[2] + total[3])) + ((total[4] + total[5]) + (total[6] + total[7]));
}

void cauchy_backward(const CauchyBackward& a, Pool& pool) {
  pool.each(a.features, [&](i64 h, int thread) {
    // dy without its factor, and the gradients by v and a.
    double* const slopes = pool.scratch<double>(thread);
    ComplexDouble* const values = reinterpret_cast<ComplexDouble*>(slopes + 2 * kNodes * a.rows);
    ComplexDouble* const rates = values + a.rows * a.states;
    for (i64 i = 0; i < (a.rows + 1) * a.states; i++) values[i] = {};
    Pole pole = {};
    for (i64 first = 0; first < a.nodes; first += kNodes) {
      const Nodes nodes(a, first);
      for (i64 r = 0; r < a.rows; r++) {
        double *const re = slopes + 2 * kNodes * r, *const im = re + kNodes;
        for (i64 k = 0; k < kNodes; k++) {
          const ComplexDouble d = k < nodes.count ? complex_at(a.dy, (r * a.features + h) * a.nodes + first + k) * conjugate(nodes.factor(k)) : ComplexDouble{};
          re[k] = d.re;
          im[k] = d.im;
        }
      }
      for (i64 n = 0; n < a.states; n++) {
        pole.set<true>(nodes, complex_at(a.a, h * a.states + n) * 0.5);
        for (i64 r = 0; r < a.rows; r++) {
          const double *const re = slopes + 2 * kNodes * r, *const im = re + kNodes;
          values[r * a.states + n] = values[r * a.states + n] + ComplexDouble{difference_of_products(re, pole.both_re, im, pole.both_im), sum_of_products(re, pole.apart_im, im, pole.apart_re)};
          if (a.da == nullptr) continue;
          const ComplexDouble through{difference_of_products(re, pole.square_both_re, im, pole.square_both_im), sum_of_products(re, pole.square_apart_im, im, pole.square_apart_re)};
          rates[n] = rates[n] + conjugate(complex_at(a.v, (r * a.features + h) * a.states + n)) * through * 0.5;
        }
      }
    }
    for (i64 n = 0; n < a.states; n++) {
      for (i64 r = 0; a.dv != nullptr && r < a.rows; r++) put_complex(a.dv, (r * a.features + h) * a.states + n, values[r * a.states + n]);
      if (a.da != nullptr) put_complex(a.da, h * a.states + n, rates[n]);
    }
  });
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
