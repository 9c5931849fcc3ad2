// Products of rows in groups, each group with a matrix of its own. A group's product is gemm's: its tiles, its packing, its threads.
#include "../../backend/cpu/native/kernel.h"
#include "few-tokens.h"

namespace elapid {
namespace ELAPID_TARGET {

void gather_rows(const GatherRows& a, Pool& pool) {
  each_row(pool, a.rows, a.columns, [&](i64 i) {
    const i64 from = a.index[i];
    float* y = a.y + i * a.columns;
    if (from < 0) {
      for (i64 c = 0; c < a.columns; c++) y[c] = 0.0f;
      return;
    }
    const float* x = a.x + from * a.xPitch;
    const float factor = a.scale == nullptr ? 1.0f : a.scale[a.scaleFrom ? from : i];
    for (i64 c = 0; c < a.columns; c++) y[c] = factor * x[c];
  });
}

void row_dots(const RowDots& a, Pool& pool) {
  each_row(pool, a.rows, a.columns, [&](i64 i) {
    vf total{};
    const i64 from = a.index[i];
    if (from >= 0) {
      const float *const x = a.x + from * a.xPitch, *const y = a.y + i * a.yPitch;
      for (i64 c = 0; c < a.columns; c += kLanes) total += load_first(x + c, a.columns - c) * load_first(y + c, a.columns - c);
    }
    a.d[i] = sum(total);
  });
}

// A launch of gemm as its declaration has it.
struct GroupProduct {
  const float *a, *b;
  float* c;
  i64 m, n, k;
  bool transposeA, transposeB;
  i64 lda, ldb;
  bool accumulate, bf16;

  void run(Pool& pool) const {
    const auto at = [](const void* p) { return double(uintptr_t(p)); };
    const double words[] = {at(a), at(b), 0, at(c), double(m), double(n), double(k), double(transposeA), double(transposeB),
                            double(lda), double(ldb), double(n), 1, 0, 0, 0, double(accumulate), double(bf16), 0, 0};
    gemm(Gemm(words), pool);
  }
};

void grouped_product(const GroupedProduct& a, Pool& pool) {
  const i64 kept = a.offsets[a.groups];
  each_row(pool, a.rows - kept, a.n, [&](i64 i) {
    float* c = a.c + (kept + i) * a.n;
    for (i64 j = 0; j < a.n; j++) c[j] = 0.0f;
  });
  for (i64 g = 0; g < a.groups; g++) {
    const i64 first = a.offsets[g], rows = a.offsets[g + 1] - first;
    if (rows == 0) continue;
    const float *const x = a.a + first * a.lda, *const w = a.b + g * a.n * a.k;
    float* const c = a.c + first * a.n;
    // gemm would pack all of W, which costs more than so few rows do.
    if (!a.transposeB && !a.bf16 && rows <= kFewTokens) {
      few_tokens(x, a.lda, rows, w, a.n, a.k, c, pool);
      continue;
    }
    GroupProduct{x, w, c, rows, a.n, a.k, false, a.transposeB, a.lda, a.transposeB ? a.k : a.n, false, a.bf16}.run(pool);
  }
}

void grouped_weights(const GroupedWeights& a, Pool& pool) {
  for (i64 g = 0; g < a.groups; g++) {
    const i64 first = a.offsets[g], rows = a.offsets[g + 1] - first;
    if (rows == 0 && a.accumulate) continue;
    GroupProduct{a.a + first * a.lda, a.b + first * a.ldb, a.c + g * a.m * a.n, a.m, a.n, rows, true, false, a.lda, a.ldb, a.accumulate,
                 a.bf16}.run(pool);
  }
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
