// Loops over memory-bound work, threaded; a thread's scratch in parts.
#pragma once
#include "pool.h"
#include "simd.h"

namespace elapid {
namespace ELAPID_TARGET {

// Elements below which waking a second thread costs more than it saves.
constexpr i64 kElementwiseGrain = 16384;

// Calls f(begin, end) over [0, count) in blocks, threaded.
template <class F>
ELAPID_INLINE void each_block(Pool& pool, i64 count, i64 grain, F f) {
  const i64 tasks = ceil_div(count, grain);
  pool.each(tasks, [&](i64 task, int) { f(task * grain, min((task + 1) * grain, count)); });
}

// Calls f(row) for rows of `columns` elements, threaded.
template <class F>
ELAPID_INLINE void each_row(Pool& pool, i64 rows, i64 columns, F f) {
  each_block(pool, rows, max(i64(1), kElementwiseGrain / max(columns, i64(1))), [&](i64 begin, i64 end) {
    for (i64 r = begin; r < end; r++) f(r);
  });
}

// Cuts arrays off a thread's scratch.
struct Carver {
  float* next;
  float* take(i64 floats) {
    float* taken = next;
    next += ceil_div(floats, 16) * 16;
    return taken;
  }
};

}  // namespace ELAPID_TARGET
}  // namespace elapid
