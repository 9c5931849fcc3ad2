// Sums over one axis of a dense [outer, length, inner] array. A task owns its outputs and adds in a fixed order.
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

}  // namespace ELAPID_TARGET
}  // namespace elapid
