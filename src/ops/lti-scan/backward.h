// The way back of a feature, through the sequences of a batch one after another. A chunk's states are worked out again from the one before it.
#pragma once
#include "system.h"

namespace elapid {
namespace ELAPID_TARGET {

struct LtiBackward {
  const LtiScanBackward& a;
  const i64 h, width;
  LtiSystem system;
  // The gradient by the state, and sums over positions.
  Plane adjoint, change, input, rows;
  // The states of a chunk: before its first position, and after each.
  Plane states;
  // No states.
  const Plane zero;

  static Plane rows_of(Carver& scratch, i64 count, i64 width) {
    float* const re = scratch.take(2 * count * width);
    return {re, re + width};
  }
  Plane of(const Plane& block, i64 i) const { return {block.re + 2 * i * width, block.im + 2 * i * width}; }

  LtiBackward(const LtiScanBackward& args, i64 feature, Carver& scratch)
      : a(args), h(feature), width(ceil_div(args.states, kLanes) * kLanes), system(args, feature, args.rule, scratch), zero(Plane::take(scratch, width)) {
    adjoint = Plane::take(scratch, width);
    change = Plane::take(scratch, width);
    input = Plane::take(scratch, width);
    const i64 count = a.channels + 2 * a.rank;
    rows = rows_of(scratch, count, width);
    states = rows_of(scratch, a.chunk + 1, width);
    zero.read(nullptr, 0, width);
    change.read(nullptr, 0, width);
    input.read(nullptr, 0, width);
    for (i64 i = 0; i < count; i++) of(rows, i).read(nullptr, 0, width);
  }

  bool starts(i64 row) const { return a.sequenceStarts != nullptr && a.sequenceStarts[row] != 0; }

  void set_time(i64 row) { system.set_time(a.steps != nullptr ? a.steps[row] : 1.0f, true); }

  // Adds x·conj(s) to sums.
  ELAPID_INLINE static void add_product(const Plane& sums, i64 n, vf xr, vf xi, vf sr, vf si) {
    store(sums.re + n, load(sums.re + n) + xr * sr + xi * si);
    store(sums.im + n, load(sums.im + n) + xi * sr - xr * si);
  }

  void position(i64 row, const Plane& before, const Plane& after) {
    const float u = a.u[row * a.uPitch + h];
    float du = 0.0f;
    for (i64 c = 0; c < a.channels; c++) {
      const i64 i = c * a.features + h;
      const float dy = a.dy != nullptr ? a.dy[row * a.dyPitch + i] : 0.0f, twofold = 2.0f * dy;
      const Plane weights = system.output(c), sums = of(rows, c);
      for (i64 n = 0; n < width; n += kLanes) {
        store(adjoint.re + n, load(adjoint.re + n) + load(weights.re + n) * twofold);
        store(adjoint.im + n, load(adjoint.im + n) - load(weights.im + n) * twofold);
        store(sums.re + n, load(sums.re + n) + load(after.re + n) * twofold);
        store(sums.im + n, load(sums.im + n) - load(after.im + n) * twofold);
      }
      if (a.dD != nullptr) a.dD[i] += dy * u;
      if (a.D != nullptr) du += dy * a.D[i];
    }
    float inner[kMostRank], slopes[kMostRank];
    system.inner_products(before, inner);
    for (i64 r = 0; r < a.rank; r++) {
      const Plane left = system.left(r), left_sums = of(rows, a.channels + r);
      vf total{};
      for (i64 n = 0; n < width; n += kLanes) {
        const vf re = load(adjoint.re + n), im = load(adjoint.im + n);
        total += re * load(left.re + n) + im * load(left.im + n);
        store(left_sums.re + n, load(left_sums.re + n) + re * inner[r]);
        store(left_sums.im + n, load(left_sums.im + n) + im * inner[r]);
      }
      slopes[r] = 2.0f * sum(total);
    }
    vf through{};
    for (i64 n = 0; n < width; n += kLanes) {
      const vf re = load(adjoint.re + n), im = load(adjoint.im + n), sr = load(before.re + n), si = load(before.im + n);
      through += re * load(system.input.re + n) + im * load(system.input.im + n);
      if (a.rule == kGiven) {
        add_product(change, n, re, im, sr, si);
        store(input.re + n, load(input.re + n) + re * u);
        store(input.im + n, load(input.im + n) + im * u);
      } else {
        const vf dr = re * sr + im * si, di = im * sr - re * si, ur = re * u, ui = im * u;
        add_product(change, n, dr, di, load(system.change_slope.re + n), load(system.change_slope.im + n));
        add_product(change, n, ur, ui, load(system.input_slope.re + n), load(system.input_slope.im + n));
        add_product(input, n, ur, ui, load(system.gain.re + n), load(system.gain.im + n));
      }
      const vf cr = load(system.change.re + n), ci = load(system.change.im + n);
      vf next_re = re + (re * cr + im * ci), next_im = im + (im * cr - re * ci);
      for (i64 r = 0; r < a.rank; r++) {
        const Plane right = system.right(r), right_sums = of(rows, a.channels + a.rank + r);
        next_re += load(right.re + n) * slopes[r];
        next_im -= load(right.im + n) * slopes[r];
        store(right_sums.re + n, load(right_sums.re + n) + sr * slopes[r]);
        store(right_sums.im + n, load(right_sums.im + n) - si * slopes[r]);
      }
      store(adjoint.re + n, next_re);
      store(adjoint.im + n, next_im);
    }
    if (a.du != nullptr) a.du[row * a.features + h] = du + sum(through);
    if (starts(row)) adjoint.read(nullptr, 0, width);
  }

  void sequence(i64 b) {
    const i64 chunks = ceil_div(a.length, a.chunk), own = 2 * (b * a.features + h) * a.states;
    adjoint.read(a.dFinalState != nullptr ? a.dFinalState + own : nullptr, a.states, width);
    for (i64 chunk = chunks - 1; chunk >= 0; chunk--) {
      const i64 first = chunk * a.chunk, count = min(a.chunk, a.length - first);
      of(states, 0).read(a.kept + 2 * ((b * chunks + chunk) * a.features + h) * a.states, a.states, width);
      for (i64 t = 0; t < count; t++) {
        const i64 row = b * a.length + first + t;
        set_time(row);
        system.move(starts(row) ? zero : of(states, t), of(states, t + 1), a.u[row * a.uPitch + h]);
      }
      for (i64 t = count - 1; t >= 0; t--) {
        const i64 row = b * a.length + first + t;
        set_time(row);
        position(row, starts(row) ? zero : of(states, t), of(states, t + 1));
      }
    }
    if (a.dInitialState != nullptr) adjoint.write(a.dInitialState + own, a.states);
  }

  void run() {
    for (i64 c = 0; a.dD != nullptr && c < a.channels; c++) a.dD[c * a.features + h] = 0.0f;
    for (i64 b = 0; b < a.batch; b++) sequence(b);
    change.write(a.dChange + 2 * h * a.states, a.states);
    input.write(a.dInput + 2 * h * a.states, a.states);
    for (i64 c = 0; c < a.channels; c++) of(rows, c).write(a.dC + 2 * (c * a.features + h) * a.states, a.states);
    for (i64 r = 0; r < a.rank; r++) {
      of(rows, a.channels + r).write(a.dLeft + 2 * (r * a.features + h) * a.states, a.states);
      of(rows, a.channels + a.rank + r).write(a.dRight + 2 * (r * a.features + h) * a.states, a.states);
    }
  }
};

}  // namespace ELAPID_TARGET
}  // namespace elapid
