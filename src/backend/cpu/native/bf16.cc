// Which bfloat16 unit serves. ELAPID_BF16_AVX512 and ELAPID_BF16_AMX are set where the compiler could build its kernels.
#include "bf16.h"

#if defined(ELAPID_BF16_AMX) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace elapid {

extern const Bf16Kernels bf16_avx512, bf16_amx;

namespace {

#if defined(ELAPID_BF16_AVX512) || defined(ELAPID_BF16_AMX)
// The AMX kernels use these instructions, too.
bool has_avx512_bf16() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bf16");
}
#endif

#if defined(ELAPID_BF16_AMX)
bool has_amx() {
#if defined(__linux__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & (kBf16 | kTile)) != (kBf16 | kTile)) return false;
  // The operating system saves tiles (XCR0 bits 17 and 18) …
  unsigned low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  if ((low >> 17 & 3) != 3) return false;
  // … and lets this process use them: 8 KiB a thread, so processes have to ask.
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}
#endif

const Bf16Kernels* find() {
#if defined(ELAPID_BF16_AMX)
  if (has_avx512_bf16() && has_amx()) return &bf16_amx;
#endif
#if defined(ELAPID_BF16_AVX512)
  if (has_avx512_bf16()) return &bf16_avx512;
#endif
  return nullptr;
}

}  // namespace

const Bf16Kernels* bf16_kernels() {
  static const Bf16Kernels* const found = find();
  return found;
}

}  // namespace elapid
