// A program for scripts/build-native.mjs: prints what this processor runs, best first.
//   kernels avx512 avx2 sse2
//   bf16 amx avx512
#include <stdio.h>

#include "processor.h"

int main() {
  printf("kernels");
  for (const elapid::Feature& set : elapid::kInstructionSets)
    if (set.runs()) printf(" %s", set.name);
  printf("\nbf16");
#if defined(__x86_64__)
  if (elapid::runs_amx_bf16()) printf(" amx");
  if (elapid::runs_avx512_bf16()) printf(" avx512");
#endif
  printf("\n");
}
