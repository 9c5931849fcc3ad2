// Runs a flat command buffer: for each launch the words [kernel index, word count, buffer addresses…, parameters…], all
// float64 (addresses are below 2⁵³ natively and below 2³² in wasm, so they are exact).
#pragma once
#include <stdint.h>

#include "pool.h"

namespace elapid {

using KernelFunction = void (*)(const double* words, Pool& pool);

// What the launch will read once, in order, on so many threads.
using StreamFunction = Stream (*)(const double* words, int threads);

// The kernels of one instruction set. `signatures` and `streams` are parallel to `functions`; a stream may be null.
struct KernelTable {
  const char* target;
  const char* const* signatures;
  const KernelFunction* functions;
  const StreamFunction* streams;
  int count;
};

inline void execute(const KernelTable& table, const double* words, int64_t count, Pool& pool) {
  for (const double* end = words + count; words < end;) {
    table.functions[int(words[0])](words + 2, pool);
    words += int64_t(words[1]);
  }
}

}  // namespace elapid
