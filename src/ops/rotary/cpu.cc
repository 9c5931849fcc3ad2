// Rotary position embedding. Sine and cosine of a position's turns are worked out once for all heads.
#include "../../backend/cpu/native/kernel.h"

namespace elapid {
namespace ELAPID_TARGET {

// Digits of a position: frequencies.ts.
constexpr i64 kDigitBase = 64;
constexpr int kLevels = 4;

// x − its nearest integer, for |x| < 2²².
ELAPID_INLINE vf fraction(vf x) {
  const float magic = 12582912.0f;  // 1.5·2²³: adding it rounds to an integer
  const vf shifted = x + magic;
  return x - (shifted - magic);
}

// The fraction of a turn that pairs [i, i + n) make at a position.
ELAPID_INLINE vf turns_at(const Rotary& a, i64 i, i64 n, i64 position) {
  const i64 half = a.rotary / 2;
  const float* table = a.frequencies + i;
  vf turn{};
  for (int level = 0; level < kLevels; level++, table += 2 * half, position /= kDigitBase) {
    const float digit = float(position % kDigitBase);
    turn += fraction(digit * load_first(table, n)) + digit * load_first(table + half, n);
  }
  return fraction(turn);
}

// Sine and cosine of a turn in [−½, ½]. Polynomials: Cephes' sinf and cosf, for angles of at most an eighth of a turn.
ELAPID_INLINE void sine_cosine(vf turn, vf& sine, vf& cosine) {
  const float magic = 12582912.0f;
  const vf shifted = turn * 4.0f + magic;
  const vi quarter = as_int(shifted);
  const vf x = (turn - (shifted - magic) * 0.25f) * 6.283185307179586f, z = x * x;
  const vf s = ((z * -1.9515295891e-4f + 8.3321608736e-3f) * z - 1.6666654611e-1f) * z * x + x;
  const vf c = ((z * 2.443315711809948e-5f - 1.388731625493765e-3f) * z + 4.166664568298827e-2f) * (z * z) - z * 0.5f + 1.0f;
  const vi odd = (quarter & 1) != 0;
  const vf a = odd ? c : s, b = odd ? s : c;
  // The sine changes its sign in quarters 2 and 3, the cosine in 1 and 2.
  sine = as_float(as_int(a) ^ ((quarter & 2) << 30));
  cosine = as_float(as_int(b) ^ (((quarter + 1) & 2) << 30));
}

// Neighbouring lanes for one another.
ELAPID_INLINE vf swap_pairs(vf x) {
#if ELAPID_LANES == 4
  return ELAPID_SHUFFLE(x, x, 1, 0, 3, 2);
#elif ELAPID_LANES == 8
  return ELAPID_SHUFFLE(x, x, 1, 0, 3, 2, 5, 4, 7, 6);
#else
  return ELAPID_SHUFFLE(x, x, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
#endif
}

// What a head is turned by: pairs (i, i + R/2) have a factor each in `cosines` and `sines`; interleaved pairs have two, the first
// of the sines with the other sign.
struct Turn {
  float *cosines, *sines;

  void at(const Rotary& a, i64 position) const {
    for (i64 i = 0; i < a.rotary / 2; i += kLanes) {
      vf s, c;
      sine_cosine(turns_at(a, i, a.rotary / 2 - i, position), s, c);
      if (a.backwards) s = -s;
      if (a.interleaved) {
        store(cosines + 2 * i, interleave_lower(c, c));
        store(cosines + 2 * i + kLanes, interleave_upper(c, c));
        store(sines + 2 * i, interleave_lower(-s, s));
        store(sines + 2 * i + kLanes, interleave_upper(-s, s));
      } else {
        store(cosines + i, c);
        store(sines + i, s);
      }
    }
  }

  ELAPID_INLINE void interleaved(const float* x, float* y, i64 count) const {
    each_vector_of(count, [&](i64 i, i64 n) {
      const vf pairs = load_first(x + i, n);
      store_first(y + i, pairs * load(cosines + i) + swap_pairs(pairs) * load(sines + i), n);
    });
  }

  ELAPID_INLINE void halves(const float* x, float* y, i64 half) const {
    each_vector_of(half, [&](i64 i, i64 n) {
      const vf a = load_first(x + i, n), b = load_first(x + half + i, n), c = load(cosines + i), s = load(sines + i);
      store_first(y + i, a * c - b * s, n);
      store_first(y + half + i, a * s + b * c, n);
    });
  }
};

void rotary(const Rotary& a, Pool& pool) {
  const i64 rows = a.batch * a.length, grain = max(i64(1), kElementwiseGrain / max(a.heads * a.size, i64(1)));
  pool.each(ceil_div(rows, grain), [&](i64 task, int thread) {
    Carver carver{pool.scratch<float>(thread)};
    float* const cosines = carver.take(a.rotary + 2 * kLanes);
    const Turn turn{cosines, carver.take(a.rotary + 2 * kLanes)};
    for (i64 row = task * grain; row < min((task + 1) * grain, rows); row++) {
      turn.at(a, (a.positions != nullptr ? a.positions[row / a.length] : 0) + row % a.length);
      const float* x = a.x + row * a.heads * a.xPitch;
      float* y = a.y + row * a.heads * a.size;
      for (i64 h = 0; h < a.heads; h++, x += a.xPitch, y += a.size) {
        if (a.interleaved) turn.interleaved(x, y, a.rotary);
        else turn.halves(x, y, a.rotary / 2);
        for (i64 i = a.rotary; i < a.size; i++) y[i] = x[i];
      }
    }
  });
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
