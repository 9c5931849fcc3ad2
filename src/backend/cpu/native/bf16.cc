// Which bfloat16 unit serves. ELAPID_BF16_AVX512 and ELAPID_BF16_AMX are set where the compiler could build its kernels.
#include "bf16.h"

#include "processor.h"

namespace elapid {

extern const Bf16Kernels bf16_avx512, bf16_amx;

namespace {

const Bf16Kernels* find() {
#if defined(ELAPID_BF16_AMX)
  if (runs_amx_bf16()) return &bf16_amx;
#endif
#if defined(ELAPID_BF16_AVX512)
  if (runs_avx512_bf16()) return &bf16_avx512;
#endif
  return nullptr;
}

}  // namespace

const Bf16Kernels* bf16_kernels() {
  static const Bf16Kernels* const found = find();
  return found;
}

}  // namespace elapid
