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

// A factor of a product within a task: lines (rows of the left one, columns of the right one) that run along the depth.
struct Bf16Factor {
  const float* x;
  int64_t ld;
  bool along_depth;  // lines are contiguous and ld apart; else line l at depth k is x[k·ld + l]
  int64_t lines, depth;
};

// c = left·right for packed factors of one depth; rows and columns are those of c, and no other element is written.
struct Bf16Tiles {
  const uint16_t *left, *right;
  int64_t rows, columns, depth;
  float* c;
  int64_t ldc;
  bool add;  // c += left·right
  bool lower_left;    // the left factor is zero at depths after the row's number: tiles of zeros are left out
  bool lower_result;  // elements of c in columns after the row's number may be anything
};

struct Bf16Kernels {
  const char* name;
  // Runs tasks on the pool and uses all of its scratch memory.
  void (*multiply)(const Bf16Product&, Pool&);
  // For products within a task, between begin and end: rounds a factor into bf16_room(lines, depth) elements, 64-byte aligned; multiplies.
  void (*begin)();
  void (*end)();
  void (*pack_left)(const Bf16Factor&, uint16_t* to);
  void (*pack_right)(const Bf16Factor&, uint16_t* to);
  void (*multiply_tiles)(const Bf16Tiles&);
};

constexpr int64_t bf16_room(int64_t lines, int64_t depth) { return (lines + 31) * ((depth + 31) / 32 * 32); }

// The best unit of this processor that the compiler could build for and the operating system lets the process use; null
// when there is none. The first call asks for that permission, which holds for all threads.
const Bf16Kernels* bf16_kernels();

}  // namespace elapid
