// Matrix products.
namespace elapid {
namespace ELAPID_TARGET {

void gemm(const Gemm& a, Pool& pool) {
  pool.each(a.batch * a.m, [&](i64 task, int) {
    const i64 batch = task / a.m, i = task % a.m;
    const float* left = a.a + batch * a.strideA;
    const float* right = a.b + batch * a.strideB;
    float* c = a.c + batch * a.strideC + i * a.ldc;
    for (i64 j = 0; j < a.n; j++) {
      float sum = a.bias != nullptr ? a.bias[j] : 0.0f;
      for (i64 k = 0; k < a.k; k++) {
        sum += (a.transposeA ? left[k * a.lda + i] : left[i * a.lda + k]) * (a.transposeB ? right[j * a.ldb + k] : right[k * a.ldb + j]);
      }
      c[j] = a.accumulate ? c[j] + sum : sum;
    }
  });
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
