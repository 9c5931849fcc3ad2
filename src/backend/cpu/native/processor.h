// What this processor and its operating system can run. The addon chooses by it at run time, and the build asks it
// (processor.cc) which kernels are worth compiling here.
#pragma once

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

namespace elapid {

// Of kernel tables and bfloat16 units alike: a name, and whether it can run here.
struct Feature {
  const char* name;
  bool (*runs)();
};

#if defined(__x86_64__)
inline bool runs_avx512() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
}

inline bool runs_avx2() {
  __builtin_cpu_init();
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kF16c = 1u << 29;
  // Not by name: older compilers do not know it.
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & kF16c) != 0;
}

inline bool runs_avx512_bf16() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kBf16 = 1u << 5;
  // Not by name: older compilers do not know it.
  return runs_avx512() && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & kBf16) != 0;
}

// Asks the operating system for the use of tiles, which then holds for all threads of the process. The AMX kernels use
// AVX512-BF16 too.
inline bool runs_amx_bf16() {
#if defined(__linux__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24;
  if (!runs_avx512_bf16() || __get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & (kBf16 | kTile)) != (kBf16 | kTile)) return false;
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

inline bool runs_always() { return true; }

// Best first.
#if defined(__x86_64__)
inline constexpr Feature kInstructionSets[] = {{"avx512", runs_avx512}, {"avx2", runs_avx2}, {"sse2", runs_always}};
#else
inline constexpr Feature kInstructionSets[] = {{"neon", runs_always}};
#endif

}  // namespace elapid
