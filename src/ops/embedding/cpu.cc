// Rows of a table by number, and the sum of gradients into such rows.
#include "../../backend/cpu/native/kernel.h"

namespace elapid {
namespace ELAPID_TARGET {

void embedding(const Embedding& a, Pool& pool) {
  each_block(pool, a.tokens, max(i64(1), kElementwiseGrain / max(a.columns, i64(1))), [&](i64 begin, i64 end) {
    for (i64 t = begin; t < end; t++) {
      const i64 id = a.ids[t];
      float* y = a.y + t * a.columns;
      if (id >= 0 && id < a.vocabulary) {
        __builtin_memcpy(y, a.weight + id * a.weightPitch, size_t(a.columns) * sizeof(float));
      } else {
        for (i64 c = 0; c < a.columns; c++) y[c] = __builtin_nanf("");
      }
    }
  });
}

void embedding_backward(const EmbeddingBackward& a, Pool& pool) {
  if (!a.accumulate) {
    each_block(pool, a.vocabulary * a.columns, 4 * kElementwiseGrain, [&](i64 begin, i64 end) {
      for (i64 i = begin; i < end; i++) a.dWeight[i] = 0.0f;
    });
  }
  // A task owns some channels of the whole table and adds the tokens in their order, so that a row that occurs often needs
  // no lock and its sum does not depend on the threads. Four cache lines a row keep the prefetchers useful.
  const i64 width = a.tokens * a.columns <= kElementwiseGrain ? a.columns : 64;
  pool.each(ceil_div(a.columns, max(width, i64(1))), [&](i64 task, int) {
    const i64 first = task * width, count = min(width, a.columns - first);
    for (i64 t = 0; t < a.tokens; t++) {
      const i64 id = a.ids[t];
      if (id < 0 || id >= a.vocabulary) continue;
      const float* dy = a.dy + t * a.dyPitch + first;
      float* row = a.dWeight + id * a.columns + first;
      for (i64 c = 0; c < count; c++) row[c] += dy[c];
    }
  });
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
