// Rows brought to unit scale: what rms-norm and layer-norm share. kCentred subtracts the row's mean.
//
// A task owns whole rows. A row is read from memory once; the passes after the first find it in the L1 cache.
#pragma once

namespace elapid {
namespace ELAPID_TARGET {

// Calls f(i, n, sums) for vectors [i, i + n) of [0, count) and leaves the lanes' totals of the kSums sums in `totals`. Four
// interleaved accumulators a sum: the additions do not wait for one another, and round off less than one would.
template <int kSums, class F>
ELAPID_INLINE void sum_vectors(i64 count, float* totals, F f) {
  constexpr int kWays = 4;
  vf sums[kWays][kSums] = {};
  i64 i = 0;
  for (; i + kWays * kLanes <= count; i += kWays * kLanes) {
    f(i, i64(kLanes), sums[0]);
    f(i + kLanes, i64(kLanes), sums[1]);
    f(i + 2 * kLanes, i64(kLanes), sums[2]);
    f(i + 3 * kLanes, i64(kLanes), sums[3]);
  }
  for (; i + kLanes <= count; i += kLanes) f(i, i64(kLanes), sums[0]);
  if (i < count) f(i, count - i, sums[0]);
  for (int s = 0; s < kSums; s++) totals[s] = sum((sums[0][s] + sums[1][s]) + (sums[2][s] + sums[3][s]));
}

// What the backward pass needs of a row: normalised = ((value − mean) − correction)·scale. The mean of large values is
// itself rounded; `correction` is what that rounding left out, so that an offset of many standard deviations costs nothing.
template <bool kCentred>
struct RowStatistics {
  static constexpr int kFloats = kCentred ? 3 : 1;
  float scale;
  float mean = 0.0f, correction = 0.0f;

  ELAPID_INLINE vf normalise(vf value) const { return (kCentred ? (value - mean) - correction : value) * scale; }

  ELAPID_INLINE void save(float* p) const {
    p[0] = scale;
    if (kCentred) p[1] = mean, p[2] = correction;
  }

  static ELAPID_INLINE RowStatistics restore(const float* p) {
    RowStatistics statistics{p[0]};
    if (kCentred) statistics.mean = p[1], statistics.correction = p[2];
    return statistics;
  }
};

template <bool kCentred>
ELAPID_INLINE RowStatistics<kCentred> row_statistics(const float* row, i64 columns, float total, float epsilon) {
  const float count = float(columns);
  if constexpr (!kCentred) return {1.0f / __builtin_sqrtf(total / count + epsilon)};
  const float mean = total / count;
  float sums[2];
  sum_vectors<2>(columns, sums, [&](i64 i, i64 n, vf* s) {
    const vf deviation = load_first(row + i, n, mean) - mean;
    s[0] += deviation;
    s[1] += deviation * deviation;
  });
  const float correction = sums[0] / count;
  const float variance = max(sums[1] / count - correction * correction, 0.0f);
  return {1.0f / __builtin_sqrtf(variance + epsilon), mean, correction};
}

// `Arguments` is RmsNorm or LayerNorm.
template <bool kCentred, class Arguments>
void normalize_rows(const Arguments& a, const float* bias, Pool& pool) {
  const i64 columns = a.columns;
  each_block(pool, a.rows, max(i64(1), kElementwiseGrain / max(columns, i64(1))), [&](i64 begin, i64 end) {
    for (i64 r = begin; r < end; r++) {
      const float* x = a.x + r * a.xPitch;
      const float* row = x;
      float total;
      auto term = [](vf value) { return kCentred ? value : value * value; };
      if (a.residual != nullptr) {
        const float* residual = a.residual + r * a.residualPitch;
        float* sum = a.sum + r * columns;
        sum_vectors<1>(columns, &total, [&](i64 i, i64 n, vf* s) {
          const vf value = load_first(x + i, n) + load_first(residual + i, n);
          store_first(sum + i, value, n);
          s[0] += term(value);
        });
        row = sum;
      } else {
        sum_vectors<1>(columns, &total, [&](i64 i, i64 n, vf* s) { s[0] += term(load_first(x + i, n)); });
      }
      const auto statistics = row_statistics<kCentred>(row, columns, total, a.epsilon);
      if (a.statistics != nullptr) statistics.save(a.statistics + r * statistics.kFloats);
      float* y = a.y + r * columns;
      if (bias != nullptr) {
        each_vector_of(columns, [&](i64 i, i64 n) {
          const vf value = statistics.normalise(load_first(row + i, n));
          store_first(y + i, value * load_first(a.weight + i, n) + load_first(bias + i, n), n);
        });
      } else {
        each_vector_of(columns, [&](i64 i, i64 n) {
          store_first(y + i, statistics.normalise(load_first(row + i, n)) * load_first(a.weight + i, n), n);
        });
      }
    }
  });
}

// out[c] = Σ_b partials[b, c], rows of partials `stride` apart.
inline void sum_partials(const float* partials, i64 blocks, i64 stride, i64 columns, float* out, Pool& pool) {
  each_block(pool, columns, max(i64(kLanes), kElementwiseGrain / max(blocks, i64(1)) / kLanes * kLanes), [&](i64 begin, i64 end) {
    each_vector_of(end - begin, [&](i64 i, i64 n) {
      vf total{};
      for (i64 b = 0; b < blocks; b++) total += load_first(partials + b * stride + begin + i, n);
      store_first(out + begin + i, total, n);
    });
  });
}

// The gradient of one row, and its share of those of weight and bias (added to the partial sums where not null).
template <bool kCentred, class Arguments>
ELAPID_INLINE void normalize_row_backward(const Arguments& a, i64 r, float* dweight, float* dbias) {
  const i64 columns = a.columns;
  const float* row = a.sum + r * a.sumPitch;
  const float* dy = a.dy + r * a.dyPitch;
  const float* weight = a.weight;
  const auto statistics = RowStatistics<kCentred>::restore(a.statistics + r * RowStatistics<kCentred>::kFloats);
  constexpr int kSums = kCentred ? 2 : 1;
  float means[kSums];
  sum_vectors<kSums>(columns, means, [&](i64 i, i64 n, vf* s) {
    const vf d = load_first(dy + i, n);
    const vf product = d * statistics.normalise(load_first(row + i, n));
    const vf w = load_first(weight + i, n);
    if (dweight != nullptr) store_first(dweight + i, load_first(dweight + i, n) + product, n);
    if (dbias != nullptr) store_first(dbias + i, load_first(dbias + i, n) + d, n);
    s[0] += product * w;
    if constexpr (kCentred) s[1] += d * w;
  });
  if (a.dsum == nullptr && a.dx == nullptr) return;
  for (float& mean : means) mean /= float(columns);
  const float* dresidual = a.dresidual == nullptr ? nullptr : a.dresidual + r * a.dresidualPitch;
  float* dsum = a.dsum == nullptr ? nullptr : a.dsum + r * columns;
  float* dx = a.dx == nullptr ? nullptr : a.dx + r * columns;
  each_vector_of(columns, [&](i64 i, i64 n) {
    vf d = load_first(dy + i, n) * load_first(weight + i, n) - statistics.normalise(load_first(row + i, n)) * means[0];
    if constexpr (kCentred) d -= means[1];
    d *= statistics.scale;
    if (dresidual != nullptr) d += load_first(dresidual + i, n);
    if (dsum != nullptr) store_first(dsum + i, d, n);
    if (dx != nullptr) store_first(dx + i, d, n);
  });
}

// Rows are cut into `blocks` runs, the same for any number of threads. A run sums its rows' gradients of weight and bias in
// order into its own partial sums, [blocks, 2 or 1, columns]; these are added, in order, at the end.
template <bool kCentred, class Arguments>
void normalize_rows_backward(const Arguments& a, float* dbias, Pool& pool) {
  const i64 columns = a.columns, blocks = max(a.blocks, i64(1)), rows = ceil_div(a.rows, blocks);
  const i64 stride = (kCentred ? 2 : 1) * columns;
  pool.each(blocks, [&](i64 block, int) {
    float* partial_weight = a.dweight == nullptr ? nullptr : a.partials + block * stride;
    float* partial_bias = dbias == nullptr ? nullptr : a.partials + block * stride + columns;
    for (i64 c = 0; c < columns; c++) {
      if (partial_weight != nullptr) partial_weight[c] = 0.0f;
      if (partial_bias != nullptr) partial_bias[c] = 0.0f;
    }
    for (i64 r = block * rows; r < min((block + 1) * rows, a.rows); r++) {
      normalize_row_backward<kCentred>(a, r, partial_weight, partial_bias);
    }
  });
  if (a.dweight != nullptr) sum_partials(a.partials, blocks, stride, columns, a.dweight, pool);
  if (dbias != nullptr) sum_partials(a.partials + columns, blocks, stride, columns, dbias, pool);
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
