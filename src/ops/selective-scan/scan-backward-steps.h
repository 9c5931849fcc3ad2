// The loops over steps of the backward scan: a chunk is run forward again, keeping h and the decays, then backwards.
namespace elapid {
namespace ELAPID_TARGET {

// Scratch of a chunk of one vector of channels and a block of states, [step][state][lane]. h has the state before the chunk
// as its step 0.
struct History {
  float *decay, *gain, *h;
};

// What the loops read and add to besides, [step][lane].
struct Gradients {
  const float* dy;  // cotangent of C·h + D·u
  float* dx;        // d(Steps::x)
  float* ddelta;    // dΔ, without what comes through x
  float* sums;      // Σ over channels for dC, then dB, of the block of states: [step][2·states]
  bool first;       // whether `sums` begins here
};

template <int kStates, bool kHold>
ELAPID_NOINLINE void recompute(const Steps& s, const float* a2, const float* inverse_a, const History& history, float* y, Ahead<7> ahead) {
  constexpr i64 kRow = kStates * kLanes;
  vf h[kStates];
#pragma GCC unroll 8
  for (int j = 0; j < kStates; j++) h[j] = load(history.h + j * kLanes);
  const float* b = s.b;
  const float* c = s.c;
  for (i64 k = 0; k < s.count; k++, b += s.b_step, c += s.c_step) {
    ahead.touch();
    const vf delta = load(s.delta + k * kLanes), x = load(s.x + k * kLanes);
    // A decay of 0 at a reset keeps every gradient from passing it.
    const bool reset = s.reset && s.reset[k];
    vf sum{};
#pragma GCC unroll 8
    for (int j = 0; j < kStates; j++) {
      vf decay, input = x * splat(b[j]);
      const i64 at = k * kRow + j * kLanes;
      if constexpr (kHold) {
        vf m1;
        const vf exponent = delta * load(a2 + j * kLanes);
        decay = exp2_and_m1(exponent, m1);
        const vf gain = hold_gain(delta, exponent, m1, load(inverse_a + j * kLanes));
        store(history.gain + at, gain);
        input *= gain;
      } else {
        decay = exp2(delta * load(a2 + j * kLanes));
      }
      if (reset) decay = vf{};
      h[j] = decay * h[j] + input;
      store(history.decay + at, decay);
      store(history.h + at + kRow, h[j]);
      sum += h[j] * splat(c[j]);
    }
    if (y) store(y + k * kLanes, load(y + k * kLanes) + sum);
  }
}

// Takes the adjoint of the states (`carry`: of the state after the chunk, then of the state before it) backwards.
template <int kStates, bool kHold>
ELAPID_NOINLINE void go_back(const Steps& s, const float* a2, const float* inverse_a, const History& history, const Gradients& g, float* carry, float* da) {
  constexpr i64 kRow = kStates * kLanes;
  constexpr int kProducts = 2 * kStates < kLanes ? kLanes : 2 * kStates;
  vf adjoint[kStates], da_sum[kStates];
#pragma GCC unroll 8
  for (int j = 0; j < kStates; j++) {
    adjoint[j] = load(carry + j * kLanes);
    da_sum[j] = load(da + j * kLanes);
  }
  const float* b = s.b + (s.count - 1) * s.b_step;
  const float* c = s.c + (s.count - 1) * s.c_step;
  for (i64 k = s.count - 1; k >= 0; k--, b -= s.b_step, c -= s.c_step) {
    const vf delta = load(s.delta + k * kLanes), x = load(s.x + k * kLanes), dy = load(g.dy + k * kLanes);
    vf dx{}, ddelta{}, products[kProducts] = {};
#pragma GCC unroll 8
    for (int j = 0; j < kStates; j++) {
      const i64 at = k * kRow + j * kLanes;
      const vf decay = load(history.decay + at), before = load(history.h + at), a_j = load(a2 + j * kLanes);
      const vf dh = dy * splat(c[j]) + adjoint[j];
      products[j] = dy * load(history.h + at + kRow);
      adjoint[j] = decay * dh;
      const vf through_decay = adjoint[j] * before;
      ddelta += through_decay * a_j;
      da_sum[j] += through_decay * delta;
      if constexpr (kHold) {
        const vf gain = load(history.gain + at), input = x * splat(b[j]), exponent = delta * a_j;
        // A reset leaves the gain's decay as it is, and only there is `decay` not e^ΔA.
        const vf factor = s.reset && s.reset[k] ? exp2(exponent) : decay;
        products[kStates + j] = dh * gain * x;
        dx += dh * gain * splat(b[j]);
        ddelta += dh * factor * input * kLog2E;
        da_sum[j] += dh * input * hold_gain_slope(delta, exponent * kLn2, factor, gain, load(inverse_a + j * kLanes));
      } else {
        products[kStates + j] = dh * x;
        dx += dh * splat(b[j]);
      }
    }
    for (int i = 0; i < 2 * kStates; i += kLanes) {
      float* to = g.sums + k * 2 * kStates + i;
      const vf sum = sum_each(products + i);
      store_first(to, g.first ? sum : load_first(to, 2 * kStates - i) + sum, 2 * kStates - i);
    }
    store(g.dx + k * kLanes, load(g.dx + k * kLanes) + dx);
    store(g.ddelta + k * kLanes, load(g.ddelta + k * kLanes) + ddelta * kLn2);
  }
#pragma GCC unroll 8
  for (int j = 0; j < kStates; j++) {
    store(carry + j * kLanes, adjoint[j]);
    store(da + j * kLanes, da_sum[j]);
  }
}

// The adjoint alone, for the first of two passes over a segment.
template <int kStates>
ELAPID_NOINLINE void carry_adjoint(const Steps& s, const float* a2, const float* dy, float* carry) {
  vf adjoint[kStates];
#pragma GCC unroll 16
  for (int j = 0; j < kStates; j++) adjoint[j] = load(carry + j * kLanes);
  const float* c = s.c + (s.count - 1) * s.c_step;
  for (i64 k = s.count - 1; k >= 0; k--, c -= s.c_step) {
    const vf delta = load(s.delta + k * kLanes), out = load(dy + k * kLanes);
    const bool reset = s.reset && s.reset[k];
#pragma GCC unroll 16
    for (int j = 0; j < kStates; j++) {
      const vf carried = exp2(delta * load(a2 + j * kLanes)) * (out * splat(c[j]) + adjoint[j]);
      adjoint[j] = reset ? vf{} : carried;
    }
  }
#pragma GCC unroll 16
  for (int j = 0; j < kStates; j++) store(carry + j * kLanes, adjoint[j]);
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
