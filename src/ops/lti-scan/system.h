// A feature's system in planes of real and imaginary parts, filled up with zeros to whole vectors: lanes run across states.
#pragma once
#include "../../backend/cpu/native/complex.h"
#include "../../backend/cpu/native/kernel.h"

namespace elapid {
namespace ELAPID_TARGET {

constexpr int kMostRank = 4;
enum LtiRule { kGiven, kHold, kBilinear };

struct Plane {
  float *re, *im;

  static Plane take(Carver& scratch, i64 width) {
    float* const re = scratch.take(width);
    return {re, scratch.take(width)};
  }
  void read(const float* from, i64 states, i64 width) const {
    for (i64 n = 0; n < width; n++) {
      re[n] = from != nullptr && n < states ? from[2 * n] : 0.0f;
      im[n] = from != nullptr && n < states ? from[2 * n + 1] : 0.0f;
    }
  }
  void write(float* to, i64 states) const {
    for (i64 n = 0; n < states; n++) {
      to[2 * n] = re[n];
      to[2 * n + 1] = im[n];
    }
  }
  void put(i64 n, ComplexDouble z) const {
    re[n] = float(z.re);
    im[n] = float(z.im);
  }
};

// 2·Re Σ x·s
ELAPID_INLINE float twice(const Plane& x, const Plane& s, i64 width) {
  vf total{};
  for (i64 n = 0; n < width; n += kLanes) total += load(x.re + n) * load(s.re + n) - load(x.im + n) * load(s.im + n);
  return 2.0f * sum(total);
}

struct LtiSystem {
  i64 width;
  Plane change, input;
  // Of the rules: how change and input move with Δ·A, times the step's length, and input with Δ·B.
  Plane change_slope, input_slope, gain;
  // Rows of C, left and right.
  Plane rows;
  i64 channels, rank;
  const float *rates, *weights;
  i64 states, rule;
  float time = 0.0f;

  Plane row(i64 i) const { return {rows.re + 2 * i * width, rows.im + 2 * i * width}; }
  Plane output(i64 c) const { return row(c); }
  Plane left(i64 r) const { return row(channels + r); }
  Plane right(i64 r) const { return row(channels + rank + r); }

  template <class Args>
  LtiSystem(const Args& a, i64 h, i64 rule_, Carver& scratch) : width(ceil_div(a.states, kLanes) * kLanes), channels(a.channels), rank(a.rank), states(a.states), rule(rule_) {
    Plane* const planes[] = {&change, &input, &change_slope, &input_slope, &gain};
    for (Plane* plane : planes) *plane = Plane::take(scratch, width);
    rates = a.change + 2 * h * states;
    weights = a.input + 2 * h * states;
    change.read(rule == kGiven ? rates : nullptr, states, width);
    input.read(rule == kGiven ? weights : nullptr, states, width);
    for (int i = 2; i < 5; i++) planes[i]->read(nullptr, states, width);
    rows.re = scratch.take(2 * (channels + 2 * rank) * width);
    rows.im = rows.re + width;
    for (i64 c = 0; c < channels; c++) output(c).read(a.C + 2 * (c * a.features + h) * states, states, width);
    for (i64 r = 0; r < rank; r++) {
      left(r).read(a.left + 2 * (r * a.features + h) * states, states, width);
      right(r).read(a.right + 2 * (r * a.features + h) * states, states, width);
    }
  }

  // Makes the system discrete for a step of another length.
  void set_time(float wanted, bool slopes) {
    if (rule == kGiven || wanted == time) return;
    time = wanted;
    const double tau = double(time);
    for (i64 n = 0; n < states; n++) {
      const ComplexDouble z = complex_at(rates, n) * tau, b = complex_at(weights, n);
      Phi phi;
      if (rule == kHold) {
        phi = phi_complex(z);
      } else {
        phi.value = inverse(ComplexDouble{1.0, 0.0} - z * 0.5);
        phi.slope = phi.value * phi.value * 0.5;
      }
      change.put(n, z * phi.value);
      input.put(n, phi.value * b * tau);
      if (!slopes) continue;
      change_slope.put(n, (phi.value + z * phi.slope) * tau);
      input_slope.put(n, phi.slope * b * (tau * tau));
      gain.put(n, phi.value * tau);
    }
  }

  // What right gives of the states before a step.
  ELAPID_INLINE void inner_products(const Plane& s, float* inner) const {
    for (i64 r = 0; r < rank; r++) inner[r] = twice(right(r), s, width);
  }

  // The states after a step: from `s` to `to`, which may be the same.
  ELAPID_INLINE void move(const Plane& s, const Plane& to, float u) const {
    float inner[kMostRank];
    inner_products(s, inner);
    for (i64 n = 0; n < width; n += kLanes) {
      const vf re = load(s.re + n), im = load(s.im + n), cr = load(change.re + n), ci = load(change.im + n);
      vf next_re = re + (cr * re - ci * im + load(input.re + n) * u), next_im = im + (cr * im + ci * re + load(input.im + n) * u);
      for (i64 r = 0; r < rank; r++) {
        next_re += load(left(r).re + n) * inner[r];
        next_im += load(left(r).im + n) * inner[r];
      }
      store(to.re + n, next_re);
      store(to.im + n, next_im);
    }
  }

  template <class Args>
  ELAPID_INLINE void outputs(const Args& a, i64 h, const Plane& s, float u, float* y) const {
    for (i64 c = 0; c < channels; c++) {
      const i64 i = c * a.features + h;
      y[i] = twice(output(c), s, width) + (a.D != nullptr ? a.D[i] * u : 0.0f);
    }
  }
};

}  // namespace ELAPID_TARGET
}  // namespace elapid
