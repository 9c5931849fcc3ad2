// The next token of each row, drawn by the Gumbel-max trick. The random numbers are those of random.ts.
#include "../../backend/cpu/native/kernel.h"
#include "../reduction/running-max.h"

namespace elapid {
namespace ELAPID_TARGET {

typedef u32 vu __attribute__((vector_size(kLanes * 4)));

template <class T>
ELAPID_INLINE T mix_bits(T x) {
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return x ^ (x >> 16);
}

constexpr u32 kMixOffset = 0x9e3779b9u;

ELAPID_INLINE u32 row_key(u32 seed, u32 step, u32 row) {
  u32 key = mix_bits(seed + kMixOffset);
  key = mix_bits(key + step + kMixOffset);
  return mix_bits(key + row + kMixOffset);
}

ELAPID_INLINE vf gumbel(u32 key, vu element) {
  const vu bits = mix_bits(mix_bits(element + key) ^ mix_bits(key ^ kMixOffset));
  const vf v = (__builtin_convertvector(vi(bits >> 9), vf) + 0.5f) * 0x1p-23f;
  return -log(log1p_nonnegative(v / (1.0f - v)));
}

template <bool kGreedy>
ELAPID_INLINE i32 sample_row(const float* logits, i64 columns, u32 key, float temperature) {
  const float lowest = -__builtin_inff();
  vi lanes;
  for (int i = 0; i < kLanes; i++) lanes[i] = i;
  RunningMax seen{splat(lowest), splat(i32(-1))};
  for (i64 c = 0; c < columns; c += kLanes) {
    const vi column = lanes + i32(c);
    vf score = load_first(logits + c, columns - c, lowest);
    if constexpr (!kGreedy) score += gumbel(key, vu(column)) * temperature;
    seen.take(score == score ? score : splat(lowest), column);
  }
  float largest = seen.value[0];
  i32 id = seen.position[0];
  for (int i = 1; i < kLanes; i++) {
    const bool first = seen.value[i] == largest && seen.position[i] < id;
    if (seen.value[i] > largest || first) largest = seen.value[i], id = seen.position[i];
  }
  return id;
}

void sample_tokens(const SampleTokens& a, Pool& pool) {
  const i32 step = a.counter[0];
  each_row(pool, a.rows, a.columns, [&](i64 r) {
    const float* logits = a.logits + r * a.logitsPitch;
    const u32 key = row_key(u32(a.seed), u32(step), u32(r));
    const i32 id = a.temperature == 0.0f ? sample_row<true>(logits, a.columns, key, 0.0f)
                                         : sample_row<false>(logits, a.columns, key, a.temperature);
    a.ids[r] = id;
    if (a.history != nullptr && step >= 0 && step < a.capacity) a.history[r * a.capacity + step] = id;
  });
  a.counter[0] = step + 1;
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
