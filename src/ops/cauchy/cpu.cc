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

void cauchy(const Cauchy& a, Pool& pool) {
  pool.each(a.features, [&](i64 h, int) {
    for (i64 first = 0; first < a.nodes; first += kNodes) {
      const Nodes nodes(a, first);
      for (i64 r = 0; r < a.rows; r++) {
        const i64 row = r * a.features + h;
        double re[kNodes] = {}, im[kNodes] = {};
        for (i64 n = 0; n < a.states; n++) {
          const ComplexDouble v = complex_at(a.v, row * a.states + n), rate = complex_at(a.a, h * a.states + n) * 0.5;
          for (i64 k = 0; k < nodes.count; k++) {
            const double x = -nodes.cosine[k] * rate.re, shift = nodes.cosine[k] * rate.im;
            const double y = nodes.sine[k] - shift, z = nodes.sine[k] + shift;
            const double near = 1.0 / (x * x + y * y), far = 1.0 / (x * x + z * z);
            re[k] += (v.re * x + v.im * y) * near + (v.re * x - v.im * z) * far;
            im[k] += (v.im * x - v.re * y) * near - (v.im * x + v.re * z) * far;
          }
        }
        for (i64 k = 0; k < nodes.count; k++) put_complex(a.y, row * a.nodes + first + k, nodes.factor(k) * ComplexDouble{re[k], im[k]});
      }
    }
  });
}

// Of a feature's state n and row: the gradient by v, and its share of that by a.
struct CauchySums {
  ComplexDouble value, slope;

  void add(const Nodes& nodes, const float* dy, ComplexDouble v, ComplexDouble rate) {
    double re = 0.0, im = 0.0, slope_re = 0.0, slope_im = 0.0;
    for (i64 k = 0; k < nodes.count; k++) {
      const ComplexDouble d = complex_at(dy, nodes.first + k) * conjugate(nodes.factor(k));
      const double x = -nodes.cosine[k] * rate.re, shift = nodes.cosine[k] * rate.im;
      const ComplexDouble near = inverse({x, nodes.sine[k] - shift}), far = inverse({x, nodes.sine[k] + shift});
      const ComplexDouble first = d * conjugate(near), second = conjugate(d * conjugate(far));
      re += first.re + second.re;
      im += first.im + second.im;
      const ComplexDouble by_first = first * conjugate(v * near), by_second = second * (conjugate(v) * far);
      slope_re += nodes.cosine[k] * (by_first.re + by_second.re);
      slope_im += nodes.cosine[k] * (by_first.im + by_second.im);
    }
    value = value + ComplexDouble{re, im};
    slope = slope + ComplexDouble{0.5 * slope_re, 0.5 * slope_im};
  }
};

void cauchy_backward(const CauchyBackward& a, Pool& pool) {
  pool.each(a.features, [&](i64 h, int thread) {
    CauchySums* const sums = pool.scratch<CauchySums>(thread);
    for (i64 n = 0; n < a.states; n++) {
      if (a.da != nullptr) put_complex(a.da, h * a.states + n, {});
    }
    for (i64 r = 0; r < a.rows; r++) {
      const i64 row = r * a.features + h;
      for (i64 n = 0; n < a.states; n++) sums[n] = {};
      for (i64 first = 0; first < a.nodes; first += kNodes) {
        const Nodes nodes(a, first);
        for (i64 n = 0; n < a.states; n++)
          sums[n].add(nodes, a.dy + 2 * row * a.nodes, complex_at(a.v, row * a.states + n), complex_at(a.a, h * a.states + n) * 0.5);
      }
      for (i64 n = 0; n < a.states; n++) {
        if (a.dv != nullptr) put_complex(a.dv, row * a.states + n, sums[n].value);
        if (a.da != nullptr) put_complex(a.da, h * a.states + n, complex_at(a.da, h * a.states + n) + sums[n].slope);
      }
    }
  });
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
