// Sums and maxima over one axis of a dense [outer, length, inner] array. A task owns its outputs and adds in a fixed order.
#include "../../backend/cpu/native/kernel.h"
#include "running-max.h"

namespace elapid {
namespace ELAPID_TARGET {

ELAPID_INLINE float sum_of(const float* x, i64 count) {
  vf s0{}, s1{}, s2{}, s3{};
  i64 i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
    s0 += load(x + i);
    s1 += load(x + i + kLanes);
    s2 += load(x + i + 2 * kLanes);
    s3 += load(x + i + 3 * kLanes);
  }
  for (; i < count; i += kLanes) s0 += load_first(x + i, count - i);
  return sum((s0 + s1) + (s2 + s3));
}

void reduce_sum(const ReduceSum& a, Pool& pool) {
  if (a.inner == 1) {
    each_block(pool, a.outer, max(i64(1), kElementwiseGrain / max(a.length, i64(1))), [&](i64 begin, i64 end) {
      for (i64 o = begin; o < end; o++) a.y[o] = a.scale * sum_of(a.x + o * a.length, a.length);
    });
    return;
  }
  // Tasks of a few vectors of columns each, so that a row's cache lines are used whole.
  const i64 width = 4 * kLanes, columns = ceil_div(a.inner, width);
  each_block(pool, a.outer * columns, max(i64(1), kElementwiseGrain / max(a.length * width, i64(1))), [&](i64 begin, i64 end) {
    for (i64 task = begin; task < end; task++) {
      const i64 o = task / columns, first = task % columns * width;
      const float* x = a.x + o * a.length * a.inner;
      for (i64 i = first; i < min(first + width, a.inner); i += kLanes) {
        const i64 n = a.inner - i;
        vf s{};
        for (i64 l = 0; l < a.length; l++) s += load_first(x + l * a.inner + i, n);
        store_first(a.y + o * a.inner + i, s * a.scale, n);
      }
    }
  });
}

void broadcast(const Broadcast& a, Pool& pool) {
  each_block(pool, a.outer * a.length, max(i64(1), kElementwiseGrain / max(a.inner, i64(1))), [&](i64 begin, i64 end) {
    for (i64 row = begin; row < end; row++) {
      const float* x = a.x + row / a.length * a.inner;
      float* y = a.y + row * a.inner;
      for (i64 i = 0; i < a.inner; i++) y[i] = a.scale * x[i];
    }
  });
}

ELAPID_INLINE void max_of_row(const float* x, i64 length, float& value, i32& position) {
  vi lanes;
  for (int i = 0; i < kLanes; i++) lanes[i] = i;
  // −∞ in the lanes after a short row never replaces anything, and such a lane loses the ties below: its position is later.
  RunningMax seen{load_first(x, length, -__builtin_inff()), lanes};
  for (i64 l = kLanes; l < length; l += kLanes) seen.take(load_first(x + l, length - l, -__builtin_inff()), lanes + i32(l));
  value = seen.value[0];
  position = seen.position[0];
  for (int i = 1; i < kLanes; i++) {
    const float other = seen.value[i];
    const i32 at = seen.position[i];
    const bool same = other == value || (other != other && value != value);
    if (same ? at < position : other > value || other != other) {
      value = other;
      position = at;
    }
  }
}

void reduce_max(const ReduceMax& a, Pool& pool) {
  if (a.inner == 1) {
    each_block(pool, a.outer, max(i64(1), kElementwiseGrain / max(a.length, i64(1))), [&](i64 begin, i64 end) {
      for (i64 o = begin; o < end; o++) {
        i32 position;
        max_of_row(a.x + o * a.length, a.length, a.y[o], position);
        if (a.positions != nullptr) a.positions[o] = position;
      }
    });
    return;
  }
  const i64 width = 4 * kLanes, columns = ceil_div(a.inner, width);
  each_block(pool, a.outer * columns, max(i64(1), kElementwiseGrain / max(a.length * width, i64(1))), [&](i64 begin, i64 end) {
    for (i64 task = begin; task < end; task++) {
      const i64 o = task / columns, first = task % columns * width;
      const float* x = a.x + o * a.length * a.inner;
      for (i64 i = first; i < min(first + width, a.inner); i += kLanes) {
        const i64 n = a.inner - i;
        RunningMax seen{load_first(x + i, n), vi{}};
        for (i64 l = 1; l < a.length; l++) seen.take(load_first(x + l * a.inner + i, n), splat(i32(l)));
        store_first(a.y + o * a.inner + i, seen.value, n);
        if (a.positions == nullptr) continue;
        for (i64 j = 0; j < min(n, i64(kLanes)); j++) a.positions[o * a.inner + i + j] = seen.position[j];
      }
    }
  });
}

void scatter_to_max(const ScatterToMax& a, Pool& pool) {
  each_block(pool, a.outer * a.length, max(i64(1), kElementwiseGrain / max(a.inner, i64(1))), [&](i64 begin, i64 end) {
    for (i64 row = begin; row < end; row++) {
      const i64 o = row / a.length, l = row % a.length;
      const float* dy = a.dy + o * a.inner;
      const i32* positions = a.positions + o * a.inner;
      float* dx = a.dx + row * a.inner;
      for (i64 i = 0; i < a.inner; i++) dx[i] = positions[i] == l ? dy[i] : 0.0f;
    }
  });
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
