// ELAPID_KERNELS_AVX512 and so on are set for the tables that the build compiles; at least one is.
#include "targets.h"

#include <cstring>

#include "processor.h"

namespace elapid {

extern const KernelTable kernels_avx512, kernels_avx2, kernels_sse2, kernels_neon;

namespace {

const KernelTable* const kBuilt[] = {
#if defined(ELAPID_KERNELS_AVX512)
    &kernels_avx512,
#endif
#if defined(ELAPID_KERNELS_AVX2)
    &kernels_avx2,
#endif
#if defined(ELAPID_KERNELS_SSE2)
    &kernels_sse2,
#endif
#if defined(ELAPID_KERNELS_NEON)
    &kernels_neon,
#endif
};

}  // namespace

std::vector<const char*> processor_targets() {
  std::vector<const char*> names;
  for (const Feature& set : kInstructionSets)
    if (set.runs()) names.push_back(set.name);
  return names;
}

const KernelTable* find_kernels(const char* name) {
  for (const char* runs : processor_targets())
    for (const KernelTable* table : kBuilt)
      if (std::strcmp(runs, name) == 0 && std::strcmp(table->target, name) == 0) return table;
  return nullptr;
}

std::vector<const char*> available_targets() {
  std::vector<const char*> names;
  for (const char* name : processor_targets())
    if (find_kernels(name) != nullptr) names.push_back(name);
  return names;
}

const KernelTable& any_kernels() { return *kBuilt[0]; }

}  // namespace elapid
