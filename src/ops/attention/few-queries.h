// The forward pass for few queries, as in decoding: keys and values are read once, in the order in which they lie, all heads of a position
// together. Parts of a sequence's keys are worked on by themselves and put together afterwards.
#pragma once
#include "../selective-scan/scan-math.h"
#include "sequence.h"

namespace elapid {
namespace ELAPID_TARGET {

// Queries of a head of keys that are few.
constexpr i64 kFewQueries = 8;
// Bytes between a key or value and its prefetch.
constexpr i64 kAhead = 32768;
template <class T>
ELAPID_INLINE void prefetch_after(const T* at) {
  __builtin_prefetch(at + kAhead / i64(sizeof(T)), 0, 2);
}

// The heads of keys, from `head` on, that a task works on: their queries, scaled so that products are in units of ln 2, [query][head][padded size], and a part's results, maxima and
// sums of weights [query][heads padded], and sums of weights and values [query][head][padded size].
struct Part {
  const Attention& a;
  Sequence<Attention> s;
  i64 head, heads;
  float *queries, *maxima, *totals, *sums;

  i64 width() const { return padded(a.size); }
  i64 columns() const { return padded(heads); }

  void begin() const {
    for (i64 r = 0; r < s.rows(); r++) {
      for (i64 h = 0; h < heads; h++) {
        const float* const q = a.q + s.query_row(head + h, r) * a.qPitch;
        float* const to = queries + (r * heads + h) * width();
        each_vector_of(a.size, [&](i64 i, i64 n) { store(to + i, load_first(q + i, n) * splat(a.scale * kLog2E)); });
      }
    }
    for (i64 i = 0; i < s.rows() * columns(); i += kLanes) {
      store(maxima + i, splat(kNoMaximum));
      store(totals + i, vf{});
    }
    fill_zero(sums, s.rows() * heads * width());
  }
};

// Products of consecutive pairs (position, head) from `pair` on with the queries [head][padded size], one in each lane. Pairs from `end` on repeat the last.
template <class T>
ELAPID_INLINE vf pair_products(const Part& p, const float* queries, const T* k, i64 stride, i64 pair, i64 end) {
  vf found[kLanes];
  const i64 size = p.a.size, width = p.width(), whole = size / kLanes * kLanes;
  i64 h = pair % p.heads;
  const T* key = k + pair / p.heads * stride + h * p.a.kPitch;
  const float* q = queries + h * width;
  ELAPID_UNROLL
  for (i64 lane = 0; lane < kLanes; lane++) {
    vf sum{};
    for (i64 i = 0; i < whole; i += kLanes) {
      prefetch_after(key + i);
      sum += load(key + i) * load(q + i);
    }
    if (whole < size) sum += load_first(key + whole, size - whole) * load(q + whole);
    found[lane] = sum;
    if (pair + lane + 1 >= end) continue;
    key += p.a.kPitch;
    q += width;
    if (++h == p.heads) {
      h = 0;
      key += stride - p.heads * p.a.kPitch;
      q = queries;
    }
  }
  return sums(found);
}

// Adds `count` rows of values, `stride` apart and weighted, to the sums of a query and head.
template <int kCount, class T>
ELAPID_INLINE void add_values(const T* v, i64 stride, const float* weights, i64 step, i64 size, float* to) {
  vf weight[kCount];
  ELAPID_UNROLL
  for (int j = 0; j < kCount; j++) weight[j] = splat(weights[j * step]);
  each_vector_of(size, [&](i64 i, i64 n) {
    vf sum = load(to + i);
    ELAPID_UNROLL
    for (int j = 0; j < kCount; j++) {
      prefetch_after(v + j * stride + i);
      sum += weight[j] * load_first(v + j * stride + i, n);
    }
    store(to + i, sum);
  });
}

// Goes on with a part over the positions [used.first, used.last] of a tile. products: kPage·heads + kLanes floats, weights: kPage·columns.
template <class T>
void add_tile(const Part& p, const T* all_keys, const T* all_values, i64 tile, Span used, float* products, float* weights, float* factors) {
  const i64 row = p.s.tile_row(tile) + used.first * p.a.kvHeads + p.head, count = used.last - used.first + 1;
  const T *const k = all_keys + row * p.a.kPitch, *const v = all_values + row * p.a.vPitch;
  const i64 k_stride = p.a.kvHeads * p.a.kPitch, v_stride = p.a.kvHeads * p.a.vPitch, pairs = count * p.heads, columns = p.columns();
  for (i64 r = 0; r < p.s.rows(); r++) {
    const Span seen = p.s.seen(p.s.query_position(r)).within(tile);
    const i64 begin = max(seen.first - used.first, i64(0)), end = min(seen.last - used.first + 1, count);
    if (begin >= end) continue;
    const float* const queries = p.queries + r * p.heads * p.width();
    for (i64 pair = 0; pair < pairs; pair += kLanes) store(products + pair, pair_products(p, queries, k, k_stride, pair, pairs));
    for (i64 h = 0; h < p.heads; h += kLanes) {
      float *const maxima = p.maxima + r * columns + h, *const totals = p.totals + r * columns + h;
      const vf before = load(maxima);
      vf largest = before, sum{};
      // Lanes beyond the heads are products of the next position: their results go nowhere.
      for (i64 j = begin; j < end; j++) largest = max(load(products + j * p.heads + h), largest);
      for (i64 j = begin; j < end; j++) {
        const vf w = exp2(load(products + j * p.heads + h) - largest);
        store(weights + j * columns + h, w);
        sum += w;
      }
      const vf factor = exp2(before - largest);
      store(factors + h, factor);
      store(maxima, largest);
      store(totals, load(totals) * factor + sum);
    }
    float* const sums = p.sums + r * p.heads * p.width();
    for (i64 h = 0; h < p.heads; h++) {
      for (i64 i = 0; i < p.width(); i += kLanes) store(sums + h * p.width() + i, load(sums + h * p.width() + i) * splat(factors[h]));
    }
    i64 j = begin;
    for (; j + 4 <= end; j += 4) {
      for (i64 h = 0; h < p.heads; h++)
        add_values<4>(v + j * v_stride + h * p.a.vPitch, v_stride, weights + j * columns + h, columns, p.a.size, sums + h * p.width());
    }
    for (; j < end; j++) {
      for (i64 h = 0; h < p.heads; h++)
        add_values<1>(v + j * v_stride + h * p.a.vPitch, v_stride, weights + j * columns + h, columns, p.a.size, sums + h * p.width());
    }
  }
}

constexpr i64 kSharedFloats = kSharedScratchBytes / sizeof(float);

// Floats of a head of keys in a part: its queries' maxima, totals and sums.
ELAPID_INLINE i64 part_floats(const Attention& a) { return a.length * (a.heads / a.kvHeads) * (padded(a.size) + 2); }

// Whether queries are few, and a part of a sequence fits the memory that threads share.
inline bool is_few(const Attention& a) { return a.length * (a.heads / a.kvHeads) <= kFewQueries && a.kvHeads * part_floats(a) <= kSharedFloats; }

inline void attend_few(const Attention& a, Pool& pool) {
  const i64 rows = a.length * (a.heads / a.kvHeads), width = padded(a.size), head_floats = part_floats(a);
  const auto span_of = [&](i64 batch) {
    const Sequence<Attention> s{a, batch};
    Span span;
    for (i64 t = 0; t < a.length; t++) span.include(s.seen(t));
    return span;
  };
  i64 most_tiles = 1;
  for (i64 b = 0; b < a.batch; b++) {
    const Span span = span_of(b);
    most_tiles = max(most_tiles, span.empty() ? 0 : span.last / kPage - span.first / kPage + 1);
  }
  // Parts are as short as shared scratch allows, sequences go by groups where not even one part of each fits.
  const i64 capacity = kSharedFloats / (a.kvHeads * head_floats);
  const i64 together = min(a.batch, capacity), part_tiles = ceil_div(most_tiles, capacity / together);
  const i64 parts = ceil_div(most_tiles, part_tiles);
  float* const shared = pool.shared<float>();
  const auto part_at = [&](i64 index, i64 head) { return shared + (index * a.kvHeads + head) * head_floats; };
  // Floats of a task for a head, at most, with what fills vectors.
  const i64 task_floats = kPage * 2 * kLanes + 2 * head_floats + rows * 2 * kLanes;
  const i64 most_heads = max(i64(kThreadScratchBytes / sizeof(float)) / task_floats, i64(1));
  // Heads of a task: as many as its scratch holds, and fewer where there are too few parts for the threads. No result depends on it.
  const i64 wanted = min(a.kvHeads, ceil_div(2 * pool.threads(), together * parts));
  const i64 heads = min(ceil_div(a.kvHeads, wanted), most_heads), chunks = ceil_div(a.kvHeads, heads);

  for (i64 first = 0; first < a.batch; first += together) {
    const i64 count = min(together, a.batch - first);
    pool.each(count * parts * chunks, [&](i64 task, int thread) {
      const i64 chunk = task % chunks, part = task / chunks % parts, b = task / chunks / parts;
      const Sequence<Attention> s{a, first + b};
      const Span span = span_of(first + b);
      const i64 tile = span.first / kPage + part * part_tiles;
      if (span.empty() || tile * kPage > span.last) return;
      Part p{a, s, chunk * heads, min(heads, a.kvHeads - chunk * heads), nullptr, nullptr, nullptr, nullptr};
      const i64 columns = p.columns();
      Carver carver{pool.scratch<float>(thread)};
      float *const products = carver.take(kPage * p.heads + 2 * kLanes), *const weights = carver.take(kPage * columns), *const factors = carver.take(columns);
      p.queries = carver.take(rows * p.heads * width);
      p.maxima = carver.take(rows * columns);
      p.totals = carver.take(rows * columns);
      p.sums = carver.take(rows * p.heads * width);
      p.begin();
      const auto add_tiles = [&]<class T>(const T* k, const T* v) {
        for (i64 i = tile; i < tile + part_tiles && i * kPage <= span.last; i++) add_tile(p, k, v, i, span.within(i), products, weights, factors);
      };
      if (a.halfKeys) add_tiles(reinterpret_cast<const half*>(a.k), reinterpret_cast<const half*>(a.v));
      else add_tiles(a.k, a.v);
      for (i64 h = 0; h < p.heads; h++) {
        float* to = part_at(b * parts + part, p.head + h);
        for (i64 r = 0; r < rows; r++, to += width + 2) {
          to[0] = p.maxima[r * columns + h];
          to[1] = p.totals[r * columns + h];
          __builtin_memcpy(to + 2, p.sums + (r * p.heads + h) * width, size_t(width) * sizeof(float));
        }
      }
    });
    each_row(pool, count * a.kvHeads, parts * head_floats, [&](i64 head) {
      const i64 b = head / a.kvHeads, kv_head = head % a.kvHeads;
      const Sequence<Attention> s{a, first + b};
      const Span span = span_of(first + b);
      const i64 used = span.empty() ? 0 : (span.last / kPage - span.first / kPage) / part_tiles + 1;
      for (i64 r = 0; r < rows; r++) {
        const auto result = [&](i64 part) { return part_at(b * parts + part, kv_head) + r * (width + 2); };
        float largest = kNoMaximum, total = 0;
        for (i64 part = 0; part < used; part++) largest = max(result(part)[0], largest);
        for (i64 part = 0; part < used; part++) {
          float* const found = result(part);
          found[0] = exp2(splat(found[0] - largest))[0];
          total += found[0] * found[1];
        }
        float* const y = a.y + s.query_row(kv_head, r) * a.size;
        each_vector_of(a.size, [&](i64 i, i64 n) {
          vf sum{};
          for (i64 part = 0; part < used; part++) sum += splat(result(part)[0]) * load(result(part) + 2 + i);
          store_first(y + i, sum * splat(1.0f / total), n);
        });
        if (a.logSums != nullptr) a.logSums[s.query_place(kv_head, r)] = largest * kLn2 + log(splat(total))[0];
      }
    });
  }
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
