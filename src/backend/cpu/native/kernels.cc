// The table of an instruction set's kernels. It and every operation's `cpu.cc` are compiled once for each set: everything lives in
// the namespace ELAPID_TARGET, so that no function compiled for one set is linked into another.
#include "executor.h"
#include "kernels.gen.h"

#define ELAPID_JOIN_(a, b) a##b
#define ELAPID_JOIN(a, b) ELAPID_JOIN_(a, b)
#define ELAPID_STRING_(a) #a
#define ELAPID_STRING(a) ELAPID_STRING_(a)

namespace elapid {
extern const KernelTable ELAPID_JOIN(kernels_, ELAPID_TARGET);
const KernelTable ELAPID_JOIN(kernels_, ELAPID_TARGET) = {
    ELAPID_STRING(ELAPID_TARGET),
    ELAPID_TARGET::kSignatures,
    ELAPID_TARGET::kFunctions,
    ELAPID_TARGET::kStreamFunctions,
    ELAPID_TARGET::kKernelCount,
};
}  // namespace elapid
