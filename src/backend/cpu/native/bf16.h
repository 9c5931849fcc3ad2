// Matrix products on units that multiply bfloat16. They are translation units of their own, chosen at run time beside the
// instruction set that the other kernels are compiled for.
#pragma once
#include <stdint.h>

namespace elapid {

class Pool;

// c (+)= op(a)·op(b) + bias with both factors rounded to bfloat16 and float32 sums. op transposes what lies in memory.
struct Bf16Product {
  int64_t m, n, k;  // none of them zero
  const float* a;
  int64_t lda;
  bool transposeA;
  const float* b;
  int64_t ldb;
  bool transposeB;
  const uint16_t* packed;  // instead of b: see ops/matmul/packed-bf16.h; or null
  float* c;
  int64_t ldc;
  const float* bias;  // [n] or null
  bool accumulate;
};

struct Bf16Kernels {
  const char* name;
  // Runs tasks on the pool and uses all of its scratch memory.
  void (*multiply)(const Bf16Product&, Pool&);
};

// The best unit of this processor that the compiler could build for and the operating system lets the process use; null
// when there is none. The first call asks for that permission, which holds for all threads.
const Bf16Kernels* bf16_kernels();

}  // namespace elapid
