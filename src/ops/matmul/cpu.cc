// Matrix products. One operand is packed once, into memory that all threads read; a task packs a block of the other for
// itself, one block of depth at a time, and multiplies it with all of the shared one. The README has the plan.
#include "../../backend/cpu/native/bf16.h"
#include "../../backend/cpu/native/kernel.h"
#include "few-rows.h"
#include "pack.h"
#include "skinny.h"
#include "tile.h"

namespace elapid {
namespace ELAPID_TARGET {

// Depth of a block: a panel of B this deep stays in the first-level cache while the panels of A pass by.
constexpr i64 kDepthBlock = kLanes == 16 ? 384 : 256;
// Most lines of the block that a task packs for itself: kDepthBlock deep, it stays in the second-level cache.
constexpr i64 kMostRows = ceil_div(128, kTileRows) * kTileRows;
constexpr i64 kMostColumns = ceil_div(192, kTileColumns) * kTileColumns;
constexpr i64 kBlockFloats = kDepthBlock * (kMostRows > kMostColumns ? kMostRows : kMostColumns);
// Depth of what is shared at a time: C leaves the caches and comes back once for each.
constexpr i64 kSharedDepth = 8 * kDepthBlock;
// Multiplications below which a product is left to one thread (some microseconds' work).
constexpr i64 kSerialWork = i64(1) << 19;
// Depth from which kFewRows rows are few: it outweighs the sums across lanes.
constexpr i64 kFewRowsDepth = 16 * kLanes;
// Elements of W that a task of a skinny product reads at least.
constexpr i64 kSkinnyGrain = i64(1) << 14;

constexpr i64 kScratchFloats = kThreadScratchBytes / sizeof(float);
constexpr i64 kSharedFloats = kSharedScratchBytes / sizeof(float);
static_assert(kScratchFloats >= kBlockFloats + kSharedDepth * kTileColumns);

struct Product {
  Operand a, b;
  i64 depth;
  float* c;
  i64 ldc;
  const float* bias;
  bool accumulate;
};

// c (+)= a·b for packed rows and packed columns. A panel of b is used for all rows before the next one. Panels of b are
// `panel` floats apart and their rows `step`.
ELAPID_INLINE void multiply_panels(const float* a, i64 rows, const float* b, i64 panel, i64 step, i64 columns, i64 depth,
                                   const TileOutput& to) {
  for (i64 j = 0; j < columns; j += kTileColumns) {
    const i64 width = min(columns - j, i64(kTileColumns));
    const int vectors = int(ceil_div(width, kLanes));
    for (i64 i = 0; i < rows; i += kTileRows) {
      const int height = int(min(rows - i, i64(kTileRows)));
      const TileOutput tile{to.c + i * to.ldc + j, to.ldc, to.bias == nullptr ? nullptr : to.bias + j, width, to.add};
      kTiles.of[height - 1][vectors - 1](depth, a + i * depth, b + j / kTileColumns * panel, step, tile);
    }
  }
}

// One product through run(count, f), which calls f(task, thread) for each task < count. `shared` has room for `capacity`
// floats. The order of every sum follows from the depth alone: neither tiles, nor tasks, nor threads change a result.
template <bool ShareA, class Run>
void multiply(const Product& p, i64 threads, float* shared, i64 capacity, const Pool& pool, Run run) {
  constexpr i64 shared_width = ShareA ? kTileRows : kTileColumns, own_width = ShareA ? kTileColumns : kTileRows;
  constexpr i64 most_own = ShareA ? kMostColumns : kMostRows;
  const Operand& common = ShareA ? p.a : p.b;
  const Operand& own = ShareA ? p.b : p.a;
  const i64 depth_block = ceil_div(p.depth, ceil_div(p.depth, kDepthBlock));
  const i64 deep = min(p.depth, depth_block * max(i64(1), kSharedDepth / depth_block));
  const i64 all_panels = ceil_div(common.lines, shared_width);
  const i64 piece = shared_width * ceil_div(all_panels, ceil_div(all_panels, capacity / (deep * shared_width)));
  const i64 share = threads == 1 ? own.lines : ceil_div(own.lines, 3 * threads);
  const i64 block = min(most_own, ceil_div(share, own_width) * own_width);
  const i64 blocks = ceil_div(own.lines, block);

  for (i64 k1 = 0; k1 < p.depth; k1 += deep) {
    const i64 k2 = min(k1 + deep, p.depth);
    for (i64 line = 0; line < common.lines; line += piece) {
      const i64 lines = min(piece, common.lines - line);
      const i64 panels = ceil_div(lines, shared_width), padded = panels * shared_width;

      const i64 group = max(i64(1), kSkinnyGrain / (shared_width * deep));
      run(ceil_div(panels, group), [&](i64 task, int) {
        const i64 first = task * group * shared_width, count = min(group * shared_width, lines - first);
        for (i64 k = k1; k < k2; k += depth_block) {
          const i64 depth = min(depth_block, k2 - k);
          pack<shared_width>(common, line + first, count, k, depth, shared + (k - k1) * padded + first * depth);
        }
      });

      // Where blocks are fewer than it takes to keep the threads busy, the shared panels are divided too.
      const i64 parts = threads == 1 ? 1 : min(panels, ceil_div(2 * threads, blocks));
      const i64 part = ceil_div(panels, parts) * shared_width;
      run(blocks * parts, [&](i64 task, int thread) {
        const i64 own_first = task / parts * block, own_count = min(block, own.lines - own_first);
        const i64 first = task % parts * part, last = min(first + part, lines);
        // Columns that one row of tiles uses only once are read where they lie, if no vector reaches beyond them.
        const bool plain = !own.alongDepth && !own.rounded && own.packed == nullptr;
        const bool in_place = ShareA && panels == 1 && plain && own_count % kLanes == 0;
        float* const mine = pool.scratch<float>(thread);
        for (i64 k = k1; k < k2; k += depth_block) {
          const i64 depth = min(depth_block, k2 - k), panel = kTileColumns * depth;
          const float* const theirs = shared + (k - k1) * padded;
          const float* const bias = k == 0 ? p.bias : nullptr;
          const bool add = k > 0 || p.accumulate;
          if (in_place) {
            const TileOutput to{p.c + line * p.ldc + own_first, p.ldc, bias == nullptr ? nullptr : bias + own_first, 0, add};
            multiply_panels(theirs, lines, own.x + k * own.ld + own_first, kTileColumns, own.ld, own_count, depth, to);
            continue;
          }
          pack<own_width>(own, own_first, own_count, k, depth, mine);
          const i64 step = ShareA ? kMostRows : last;
          for (i64 l = first; l < last; l += step) {
            const i64 count = min(step, last - l);
            const i64 row = ShareA ? line + l : own_first, column = ShareA ? own_first : line + l;
            const TileOutput to{p.c + row * p.ldc + column, p.ldc, bias == nullptr ? nullptr : bias + column, 0, add};
            if (ShareA) multiply_panels(theirs + l * depth, count, mine, panel, kTileColumns, own_count, depth, to);
            else multiply_panels(mine, own_count, theirs + l * depth, panel, kTileColumns, count, depth, to);
          }
        }
      });
    }
  }
}

template <class Run>
void multiply(const Product& p, i64 threads, float* shared, i64 capacity, const Pool& pool, Run run) {
  if (p.a.lines < p.b.lines) multiply<true>(p, threads, shared, capacity, pool, run);
  else multiply<false>(p, threads, shared, capacity, pool, run);
}

// A unit for bfloat16, where these kernels are for processors that may have one; null: their own arithmetic, rounded.
const Bf16Kernels* bf16_unit() {
#if ELAPID_LANES == 16
  return bf16_kernels();
#else
  return nullptr;
#endif
}

// Whether W is read where it lies.
ELAPID_INLINE bool is_skinny(const Gemm& g) {
  return !g.bf16 && g.transposeB && !g.transposeA && (g.m <= kSkinnyRows || (g.m <= kFewRows && g.k >= kFewRowsDepth));
}

// Rows of W that a task reads.
ELAPID_INLINE i64 skinny_step(const Gemm& g) { return kLanes * max(i64(1), kSkinnyGrain / (kLanes * g.k)); }

Streamed gemm_streamed(const Gemm& g, int) {
  if (!is_skinny(g) || g.m == 0 || g.k == 0 || g.batch != 1 || g.ldb != g.k) return {};
  const i64 row_bytes = g.k * i64(sizeof(float));
  return {g.n * row_bytes, skinny_step(g) * row_bytes};
}

void gemm(const Gemm& g, Pool& pool) {
  const auto product = [&](i64 i) {
    return Product{{g.a + i * g.strideA, g.lda, !g.transposeA, g.m, g.bf16},
                   {g.b + i * g.strideB, g.ldb, g.transposeB, g.n, g.bf16},
                   g.k, g.c + i * g.strideC, g.ldc, g.bias, g.accumulate};
  };
  if (g.m == 0 || g.n == 0 || g.batch == 0) return;
  if (g.k == 0) {
    for (i64 row = 0; row < g.batch * g.m; row++) {
      float* c = g.c + row / g.m * g.strideC + row % g.m * g.ldc;
      for (i64 j = 0; j < g.n; j++) c[j] = (g.accumulate ? c[j] : 0.0f) + (g.bias != nullptr ? g.bias[j] : 0.0f);
    }
    return;
  }
  if (is_skinny(g)) {
    const i64 step = skinny_step(g), blocks = ceil_div(g.n, step);
    pool.each(g.batch * blocks, [&](i64 task, int) {
      const i64 i = task / blocks, begin = task % blocks * step;
      for (i64 row = 0; row < g.m; row += kSkinnyRows) {
        const float* a = g.a + i * g.strideA + row * g.lda;
        float* c = g.c + i * g.strideC + row * g.ldc;
        kSkinnyBlocks[min(g.m - row, i64(kSkinnyRows)) - 1](g, a, g.b + i * g.strideB, c, begin, min(begin + step, g.n));
      }
    });
    return;
  }
  const i64 work = g.m * g.n * g.k;
  if (work <= kSerialWork) {
    const i64 several = max(i64(1), kSerialWork / work);
    pool.each(ceil_div(g.batch, several), [&](i64 task, int thread) {
      const auto here = [&](i64 count, auto f) {
        for (i64 i = 0; i < count; i++) f(i, thread);
      };
      float* const shared = pool.scratch<float>(thread) + kBlockFloats;
      for (i64 i = task * several; i < min((task + 1) * several, g.batch); i++) {
        multiply(product(i), 1, shared, kScratchFloats - kBlockFloats, pool, here);
      }
    });
    return;
  }
  if (const Bf16Kernels* const unit = g.bf16 ? bf16_unit() : nullptr) {
    for (i64 i = 0; i < g.batch; i++) {
      const float *const a = g.a + i * g.strideA, *const b = g.b + i * g.strideB;
      unit->multiply({g.m, g.n, g.k, a, g.lda, g.transposeA, b, g.ldb, g.transposeB, nullptr, g.c + i * g.strideC, g.ldc, g.bias,
                      g.accumulate}, pool);
    }
    return;
  }
  const auto everywhere = [&](i64 count, auto f) { pool.each(count, f); };
  for (i64 i = 0; i < g.batch; i++) multiply(product(i), pool.threads(), pool.shared<float>(), kSharedFloats, pool, everywhere);
}

void multiply_packed_bf16(const float* x, i64 x_pitch, const uint16_t* packed, i64 m, i64 n, i64 k, const float* bias, float* c,
                          i64 c_pitch, Pool& pool) {
  if (m == 0 || n == 0) return;
  if (const Bf16Kernels* const unit = bf16_unit()) {
    return unit->multiply({m, n, k, x, x_pitch, false, nullptr, 0, true, packed, c, c_pitch, bias, false}, pool);
  }
  const Product product{{x, x_pitch, true, m, true}, {nullptr, k, true, n, true, packed}, k, c, c_pitch, bias, false};
  const auto everywhere = [&](i64 count, auto f) { pool.each(count, f); };
  multiply(product, pool.threads(), pool.shared<float>(), kSharedFloats, pool, everywhere);
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
