// Packed weights: making them, reading them, and multiplying with them as fast as memory delivers them.
#include "../../backend/cpu/native/kernel.h"
#include "../matmul/few-rows.h"
#include "../matmul/packed-bf16.h"
#include "format.h"
#include "pack.h"
#include "product.h"

namespace elapid {
namespace ELAPID_TARGET {

// Bytes of weights that a task reads: so few that the threads end together. Tasks of a thread follow one another in memory.
constexpr i64 kLeastPackedGrain = i64(24) << 10, kMostPackedGrain = i64(48) << 10, kPackedTasks = 12;

template <class F, class Arguments>
void pack_weight(const Arguments& a, Pool& pool) {
  const i64 bytes = panel_bytes<F>(a.columns);
  pool.each(ceil_div(a.rows, kPanelRows), [&](i64 panel, int) {
    const i64 row = panel * kPanelRows;
    pack_panel<F>(a.weight + row * a.weightPitch, min(kPanelRows, a.rows - row), a.columns, a.weightPitch, a.packed + panel * bytes);
  });
}

void pack_bf16(const PackBf16& a, Pool& pool) { pack_weight<Bf16Format>(a, pool); }
void pack_int8(const PackInt8& a, Pool& pool) { pack_weight<Int8Format>(a, pool); }
void pack_int4(const PackInt4& a, Pool& pool) { pack_weight<Int4Format>(a, pool); }

// The 16 numbers of a panel at depth k.
template <class F>
ELAPID_INLINE void panel_column(const u8* panel, i64 k, float* column) {
  const u8* unit = panel + k / F::kUnitDepth * F::kUnitBytes;
  const int within = int(k % F::kUnitDepth);
  for (int p = 0; p < kParts; p++) {
    vf value = F::decode(load_words(unit + kLines<F> + within / F::kPerWord * 64 + p * 4 * kLanes), within % F::kPerWord);
    if constexpr (F::kScaled) value *= load_scales(unit + within / kBlockDepth * 2 * kPanelRows + p * 2 * kLanes);
    store(column + p * kLanes, value);
  }
}

template <class F, class Arguments>
void unpack_weight(const Arguments& a, Pool& pool) {
  const i64 bytes = panel_bytes<F>(a.columns);
  pool.each(ceil_div(a.rows, kPanelRows), [&](i64 panel, int) {
    const i64 row = panel * kPanelRows, rows = min(kPanelRows, a.rows - row);
    for (i64 k = 0; k < a.columns; k++) {
      float column[kPanelRows];
      panel_column<F>(a.packed + panel * bytes, k, column);
      for (i64 r = 0; r < rows; r++) a.weight[(row + r) * a.columns + k] = column[r];
    }
  });
}

void unpack_bf16(const UnpackBf16& a, Pool& pool) { unpack_weight<Bf16Format>(a, pool); }
void unpack_int8(const UnpackInt8& a, Pool& pool) { unpack_weight<Int8Format>(a, pool); }
void unpack_int4(const UnpackInt4& a, Pool& pool) { unpack_weight<Int4Format>(a, pool); }

// Panels of integers as panels of bfloat16.
template <class F>
void convert_panels(const u8* from, i64 panels, i64 depth, u8* to, Pool& pool) {
  const i64 bytes = panel_bytes<F>(depth), to_bytes = panel_bytes<Bf16Format>(depth), pairs = to_bytes / 64;
  pool.each(panels, [&](i64 panel, int) {
    for (i64 pair = 0; pair < pairs; pair++) {
      float lower[kPanelRows], upper[kPanelRows];
      panel_column<F>(from + panel * bytes, 2 * pair, lower);
      panel_column<F>(from + panel * bytes, 2 * pair + 1, upper);
      for (int p = 0; p < kParts; p++) {
        const vi words = upper_half(load(lower + p * kLanes)) | (upper_half(load(upper + p * kLanes)) << 16);
        store_words(to + panel * to_bytes + pair * 64 + p * 4 * kLanes, words);
      }
    }
  });
}

template <class F, class Arguments>
void linear_packed_bf16(const Arguments& a, Pool& pool) {
  const auto multiply = [&](const u8* packed, i64 first, i64 n) {
    multiply_packed_bf16(a.a, a.lda, reinterpret_cast<const uint16_t*>(packed), a.m, n, a.k,
                         a.bias == nullptr ? nullptr : a.bias + first, a.c + first, a.ldc, pool);
  };
  if constexpr (!F::kScaled) return multiply(a.weight, 0, a.n);
  for (i64 first = 0; first < a.n; first += a.chunk) {
    const i64 n = min(a.chunk, a.n - first);
    convert_panels<F>(a.weight + first / kPanelRows * panel_bytes<F>(a.k), ceil_div(n, kPanelRows), a.k, a.space, pool);
    multiply(a.space, first, n);
  }
}

// Panels that a task reads.
template <class F>
ELAPID_INLINE i64 panels_of_task(i64 n, i64 k, int threads) {
  const i64 bytes = panel_bytes<F>(k), tasks = kPackedTasks * threads;
  const i64 grain = min(max(ceil_div(n, kPanelRows) * bytes / tasks, kLeastPackedGrain), kMostPackedGrain);
  return max(i64(1), grain / max(bytes, i64(1)));
}

template <class F, class Arguments>
Streamed packed_streamed(const Arguments& a, int threads) {
  if (a.bf16 || a.m == 0 || a.m > kFewRows) return {};
  const i64 bytes = panel_bytes<F>(a.k);
  return {ceil_div(a.n, kPanelRows) * bytes, panels_of_task<F>(a.n, a.k, threads) * bytes};
}

Streamed linear_bf16_streamed(const LinearBf16& a, int threads) { return packed_streamed<Bf16Format>(a, threads); }
Streamed linear_int8_streamed(const LinearInt8& a, int threads) { return packed_streamed<Int8Format>(a, threads); }
Streamed linear_int4_streamed(const LinearInt4& a, int threads) { return packed_streamed<Int4Format>(a, threads); }

// Rows [begin, end) of c, from rows of a as the format's products take them.
template <class F, class Arguments, class Rows>
void multiply_panels(const Arguments& a, const Rows& rows, i64 begin, i64 end, Pool& pool) {
  const i64 panels = ceil_div(a.n, kPanelRows), bytes = panel_bytes<F>(a.k);
  const i64 group = panels_of_task<F>(a.n, a.k, pool.threads());
  pool.each(ceil_div(panels, group), [&](i64 task, int) {
    // A group of panels stays in a cache while the rows pass by, a few at a time.
    for (i64 row = 0; row < end - begin; row += kPackedRows) {
      const int count = int(min(end - begin - row, i64(kPackedRows)));
      for (i64 panel = task * group; panel < min((task + 1) * group, panels); panel++) {
        const i64 n = panel * kPanelRows;
        const PanelResult to{a.c + begin * a.ldc + n, a.ldc, a.bias == nullptr ? nullptr : a.bias + n, min(kPanelRows, a.n - n)};
        panel_rows<F>(count, a.weight + panel * bytes, rows, row, to);
      }
    }
  });
}

template <class F, class Arguments>
void linear_packed(const Arguments& a, Pool& pool) {
  if (a.bf16) return linear_packed_bf16<F>(a, pool);
  // What is made of the rows lies where all threads see it; as many rows at a time as fit there.
  constexpr bool kRounded = F::kScaled;
  const i64 whole = a.k / F::kUnitDepth, rest = a.k % F::kUnitDepth;
  const i64 row_bytes = kRounded ? rounded_row_bytes(a.k) : rest == 0 ? 0 : F::kUnitDepth * i64(sizeof(float));
  const i64 most = row_bytes == 0 ? a.m : max(i64(1), i64(kSharedScratchBytes) / row_bytes);
  for (i64 begin = 0; begin < a.m; begin += most) {
    const i64 end = min(a.m, begin + most);
    const i64 grain = max(i64(1), kElementwiseGrain / max(a.k, i64(1)));
    if constexpr (kRounded) {
      const RoundedRows rows = rounded_rows(pool.shared<void>(), end - begin, a.k);
      each_block(pool, end - begin, grain, [&](i64 first, i64 last) {
        for (i64 m = first; m < last; m++) round_row<F>(a.a + (begin + m) * a.lda, a.k, rows, m);
      });
      multiply_panels<F>(a, rows, begin, end, pool);
    } else {
      float* padded = rest == 0 ? nullptr : pool.shared<float>();
      if (rest > 0) {
        each_block(pool, end - begin, grain, [&](i64 first, i64 last) {
          for (i64 m = first; m < last; m++)
            for (i64 k = 0; k < F::kUnitDepth; k++)
              padded[m * F::kUnitDepth + k] = k < rest ? a.a[(begin + m) * a.lda + whole * F::kUnitDepth + k] : 0.0f;
        });
      }
      multiply_panels<F>(a, FloatRows{a.a + begin * a.lda, a.lda, whole, padded}, begin, end, pool);
    }
  }
}

void linear_bf16(const LinearBf16& a, Pool& pool) { linear_packed<Bf16Format>(a, pool); }
void linear_int8(const LinearInt8& a, Pool& pool) { linear_packed<Int8Format>(a, pool); }
void linear_int4(const LinearInt4& a, Pool& pool) { linear_packed<Int4Format>(a, pool); }

template <class F, class Arguments>
void embedding_packed(const Arguments& a, Pool& pool) {
  const i64 bytes = panel_bytes<F>(a.columns);
  each_block(pool, a.tokens, max(i64(1), kElementwiseGrain / max(kPanelRows * a.columns, i64(1))), [&](i64 begin, i64 end) {
    for (i64 t = begin; t < end; t++) {
      const i64 id = a.ids[t];
      float* y = a.y + t * a.columns;
      for (i64 k = 0; k < a.columns; k++) {
        float column[kPanelRows];
        if (id >= 0 && id < a.vocabulary) panel_column<F>(a.weight + id / kPanelRows * bytes, k, column);
        y[k] = id >= 0 && id < a.vocabulary ? column[id % kPanelRows] : __builtin_nanf("");
      }
    }
  });
}

void embedding_bf16(const EmbeddingBf16& a, Pool& pool) { embedding_packed<Bf16Format>(a, pool); }
void embedding_int8(const EmbeddingInt8& a, Pool& pool) { embedding_packed<Int8Format>(a, pool); }
void embedding_int4(const EmbeddingInt4& a, Pool& pool) { embedding_packed<Int4Format>(a, pool); }

}  // namespace ELAPID_TARGET
}  // namespace elapid
