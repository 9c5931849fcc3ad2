// The blocking of bfloat16 products, for any unit. One factor, the smaller, is packed once into memory that all threads read;
// a task packs a block of the other for itself and multiplies it with all of the shared one.
//
// A unit has
//   kRows         height of a panel of A; a panel of B has 32 columns: two of 16
//   kDepthSteps   steps of depth (32 each) that a panel of B may have to stay in the first-level cache
//   kOwnBytes     room for a task's own packed block in the second-level cache
//   begin, end    called by a thread before and after its tiles
//   tile          multiplies a panel of A with one of B
#pragma once
#include "../../backend/cpu/native/bf16.h"
#include "bf16-pack.h"

namespace elapid {
namespace ELAPID_TARGET {

constexpr i64 kColumns = 32;
// Steps of depth that are packed at a time: C is read again for each.
constexpr i64 kMostSteps = 64;
// Lines of the shared factor that meet the own block at all depths before the next ones, so that C stays in a cache.
constexpr i64 kChunk = 256;
constexpr i64 kMostOwnLines = 512;
// Bytes that a task packs for all threads at least.
constexpr i64 kPackGrain = i64(1) << 16;

// Part of C, and what becomes of the sums: c = sums (+ bias) or, with `add`, c += sums (+ bias).
struct Output {
  float* c;
  i64 ldc;
  const float* bias;  // of the part's first column on, or null
  bool add;
};

// Packed lines: panels are `panel` elements apart.
struct Packed {
  const uint16_t* at;
  i64 panel;
};

// A panel of B is used for all rows before the next one. `steps` deep.
template <class Unit>
void multiply_panels(const Packed& a, i64 rows, const Packed& b, i64 columns, i64 steps, const Output& to) {
  for (i64 j = 0; j < columns; j += kColumns) {
    for (i64 i = 0; i < rows; i += Unit::kRows) {
      const Output tile{to.c + i * to.ldc + j, to.ldc, to.bias == nullptr ? nullptr : to.bias + j, to.add};
      Unit::tile(steps, a.at + i / Unit::kRows * a.panel, b.at + j / 16 * b.panel, b.panel, min(rows - i, i64(Unit::kRows)),
                 min(columns - j, kColumns), tile);
    }
  }
}

// The order of every sum follows from the depth alone: neither blocks, nor tasks, nor threads change a result.
template <class Unit, bool ShareA>
void multiply_shared(const Bf16Product& p, Pool& pool) {
  constexpr i64 width = ShareA ? Unit::kRows : kColumns, own_width = ShareA ? kColumns : Unit::kRows;
  const Lines a{p.a, p.lda, !p.transposeA, p.m, p.k}, b{p.b, p.ldb, p.transposeB, p.n, p.k};
  const Lines& common = ShareA ? a : b;
  const Lines& own = ShareA ? b : a;
  const bool common_packed = !ShareA && p.packed != nullptr, own_packed = ShareA && p.packed != nullptr;
  const i64 all_steps = ceil_div(p.k, kStep), threads = pool.threads();
  const i64 deep = ceil_div(all_steps, ceil_div(all_steps, kMostSteps));
  const i64 depth_steps = ceil_div(deep, ceil_div(deep, i64(Unit::kDepthSteps)));
  const i64 line_bytes = deep * kStep * i64(sizeof(uint16_t));

  const i64 all_panels = ceil_div(common.count, width);
  const i64 room = common_packed ? all_panels : i64(kSharedScratchBytes) / (line_bytes * width);
  const i64 piece = width * ceil_div(all_panels, ceil_div(all_panels, room));
  const i64 fitting = max(own_width, min(kMostOwnLines, i64(Unit::kOwnBytes) / line_bytes) / own_width * own_width);
  const i64 share = threads == 1 ? own.count : ceil_div(own.count, 3 * threads);
  const i64 block = min(fitting, ceil_div(share, own_width) * own_width), blocks = ceil_div(own.count, block);

  const auto pack = [](bool rows, const Lines& from, i64 line, i64 lines, i64 step, i64 steps, uint16_t* to) {
    if (rows) pack_rows<Unit::kRows>(from, line, lines, step * kStep, steps, to);
    else pack_columns(from, line, lines, step * kStep, steps, to);
  };
  uint16_t* const shared = pool.shared<uint16_t>();

  for (i64 s1 = 0; s1 < all_steps; s1 += deep) {
    const i64 steps = min(deep, all_steps - s1), line_size = steps * kStep;
    for (i64 start = 0; start < common.count; start += piece) {
      const i64 lines = min(piece, common.count - start);
      if (!common_packed) {
        const i64 group = width * max(i64(1), kPackGrain / (line_bytes * width));
        pool.each(ceil_div(lines, group), [&](i64 task, int) {
          const i64 first = task * group;
          pack(ShareA, common, start + first, min(group, lines - first), s1, steps, shared + first * line_size);
        });
      }
      // Where blocks are fewer than it takes to keep the threads busy, the shared lines are divided too.
      const i64 panels = ceil_div(lines, width);
      const i64 parts = threads == 1 ? 1 : min(panels, ceil_div(2 * threads, blocks));
      const i64 part = ceil_div(panels, parts) * width;
      pool.each(blocks * parts, [&](i64 task, int thread) {
        const i64 own_first = task / parts * block, own_count = min(block, own.count - own_first);
        const i64 first = task % parts * part, last = min(first + part, lines);
        if (first >= last) return;
        uint16_t* const scratch = pool.scratch<uint16_t>(thread);
        if (!own_packed) pack(!ShareA, own, own_first, own_count, s1, steps, scratch);
        Unit::begin();
        constexpr i64 chunk = ceil_div(kChunk, width) * width;
        for (i64 l = first; l < last; l += chunk) {
          const i64 count = min(chunk, last - l);
          const i64 row = ShareA ? start + l : own_first, column = ShareA ? own_first : start + l;
          for (i64 s = 0; s < steps; s += depth_steps) {
            // Of columns packed for good, panels have all steps; of lines packed here, those of this pass.
            const auto view = [&](bool packed, i64 line, i64 panel_lines, i64 at, const uint16_t* here) {
              return packed ? Packed{p.packed + line * all_steps * kStep + (s1 + s) * panel_lines * kStep, panel_lines * all_steps * kStep}
                            : Packed{here + at * line_size + s * panel_lines * kStep, panel_lines * line_size};
            };
            const i64 lines_of_common = ShareA ? i64(Unit::kRows) : 16, lines_of_own = ShareA ? 16 : i64(Unit::kRows);
            const Packed theirs = view(common_packed, start + l, lines_of_common, l, shared);
            const Packed mine = view(own_packed, own_first, lines_of_own, 0, scratch);
            const bool begins = s1 + s == 0;
            const float* const bias = begins && p.bias != nullptr ? p.bias + column : nullptr;
            const Output to{p.c + row * p.ldc + column, p.ldc, bias, !begins || p.accumulate};
            const i64 depth = min(depth_steps, steps - s);
            if (ShareA) multiply_panels<Unit>(theirs, count, mine, own_count, depth, to);
            else multiply_panels<Unit>(mine, own_count, theirs, count, depth, to);
          }
        }
        Unit::end();
      });
    }
  }
}

template <class Unit>
void pack_left(const Bf16Factor& f, uint16_t* to) {
  pack_rows<Unit::kRows>({f.x, f.ld, f.along_depth, f.lines, f.depth}, 0, f.lines, 0, ceil_div(f.depth, kStep), to);
}

inline void pack_right(const Bf16Factor& f, uint16_t* to) {
  pack_columns({f.x, f.ld, f.along_depth, f.lines, f.depth}, 0, f.lines, 0, ceil_div(f.depth, kStep), to);
}

// Sums go along the depth in order, so that nothing else changes a result.
template <class Unit>
void multiply_tiles(const Bf16Tiles& p) {
  const i64 all_steps = ceil_div(p.depth, kStep), line = all_steps * kStep;
  for (i64 j = 0; j < p.columns; j += kColumns) {
    for (i64 i = p.lower_result ? j / Unit::kRows * Unit::kRows : 0; i < p.rows; i += Unit::kRows) {
      const i64 steps = p.lower_left ? min(all_steps, ceil_div(i + Unit::kRows, kStep)) : all_steps;
      Unit::tile(steps, p.left + i * line, p.right + j * line, 16 * line, min(p.rows - i, i64(Unit::kRows)), min(p.columns - j, kColumns),
                 {p.c + i * p.ldc + j, p.ldc, nullptr, p.add});
    }
  }
}

template <class Unit>
void multiply_bf16(const Bf16Product& p, Pool& pool) {
  if (p.m < p.n) multiply_shared<Unit, true>(p, pool);
  else multiply_shared<Unit, false>(p, pool);
}

template <class Unit>
constexpr Bf16Kernels unit_kernels(const char* name) {
  return {name, multiply_bf16<Unit>, Unit::begin, Unit::end, pack_left<Unit>, pack_right, multiply_tiles<Unit>};
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
