// The kernel tables that were compiled in.
#pragma once
#include <vector>

#include "executor.h"

namespace elapid {

// The table of this name; null when it was not compiled in or cannot run here.
const KernelTable* find_kernels(const char* name);
// Names of the tables that were compiled in and that this processor can run, best first.
std::vector<const char*> available_targets();
// Names of the instruction sets that this processor can run, compiled in or not, best first.
std::vector<const char*> processor_targets();
// Of any table, run or not: all have the same kernels in the same order.
const KernelTable& any_kernels();

}  // namespace elapid
