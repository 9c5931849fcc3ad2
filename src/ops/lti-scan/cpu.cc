// The recurrence of linear time-invariant systems. The mathematics and the memory plan are in README.md.
#include "backward.h"
#include "system.h"

namespace elapid {
namespace ELAPID_TARGET {

void lti_scan(const LtiScan& a, Pool& pool) {
  pool.each(a.batch * a.features, [&](i64 task, int thread) {
    Carver scratch{pool.scratch<float>(thread)};
    const i64 b = task / a.features, h = task % a.features, chunks = ceil_div(a.length, a.chunk);
    LtiSystem system(a, h, a.rule, scratch);
    const Plane s = Plane::take(scratch, system.width);
    s.read(a.initialState != nullptr ? a.initialState + 2 * task * a.states : nullptr, a.states, system.width);
    for (i64 t = 0; t < a.length; t++) {
      const i64 row = b * a.length + t;
      if (a.kept != nullptr && t % a.chunk == 0) s.write(a.kept + 2 * ((b * chunks + t / a.chunk) * a.features + h) * a.states, a.states);
      if (a.sequenceStarts != nullptr && a.sequenceStarts[row] != 0) s.read(nullptr, 0, system.width);
      system.set_time(a.steps != nullptr ? a.steps[row] : 1.0f, false);
      const float u = a.u[row * a.uPitch + h];
      system.move(s, s, u);
      system.outputs(a, h, s, u, a.y + row * a.channels * a.features);
    }
    s.write(a.finalState + 2 * task * a.states, a.states);
  });
}

void lti_scan_backward(const LtiScanBackward& a, Pool& pool) {
  pool.each(a.features, [&](i64 h, int thread) {
    Carver scratch{pool.scratch<float>(thread)};
    LtiBackward(a, h, scratch).run();
  });
}

void lti_step(const LtiStep& a, Pool& pool) {
  each_row(pool, a.batch * a.features, 8 * a.states * (2 + a.channels + 2 * a.rank), [&](i64 task) {
    const i64 b = task / a.features, h = task % a.features, states = a.states;
    float* const s = a.state + 2 * task * states;
    const float *const change = a.change + 2 * h * states, *const input = a.input + 2 * h * states;
    const float u = a.u[b * a.uPitch + h];
    float inner[kMostRank] = {};
    for (i64 r = 0; r < a.rank; r++) {
      const float* const right = a.right + 2 * (r * a.features + h) * states;
      for (i64 n = 0; n < states; n++) inner[r] += right[2 * n] * s[2 * n] - right[2 * n + 1] * s[2 * n + 1];
      inner[r] *= 2.0f;
    }
    for (i64 n = 0; n < states; n++) {
      const float re = s[2 * n], im = s[2 * n + 1], cr = change[2 * n], ci = change[2 * n + 1];
      float next_re = re + (cr * re - ci * im + input[2 * n] * u), next_im = im + (cr * im + ci * re + input[2 * n + 1] * u);
      for (i64 r = 0; r < a.rank; r++) {
        const float* const left = a.left + 2 * (r * a.features + h) * states;
        next_re += left[2 * n] * inner[r];
        next_im += left[2 * n + 1] * inner[r];
      }
      s[2 * n] = next_re;
      s[2 * n + 1] = next_im;
    }
    for (i64 c = 0; c < a.channels; c++) {
      const i64 i = c * a.features + h;
      const float* const weights = a.C + 2 * i * states;
      float total = 0.0f;
      for (i64 n = 0; n < states; n++) total += weights[2 * n] * s[2 * n] - weights[2 * n + 1] * s[2 * n + 1];
      a.y[b * a.channels * a.features + i] = 2.0f * total + (a.D != nullptr ? a.D[i] * u : 0.0f);
    }
  });
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
