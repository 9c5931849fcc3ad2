// Entry points of the wasm build. JavaScript allocates the memory; several instances of the module share it, one per
// thread.
#include "executor.h"

namespace elapid {

extern const KernelTable kernels_wasm;
static Pool pool;

void wait_on(uint32_t* word, uint32_t expected) { __builtin_wasm_memory_atomic_wait32(reinterpret_cast<int*>(word), int(expected), -1); }
void wake(uint32_t* word, int most) { __builtin_wasm_memory_atomic_notify(reinterpret_cast<int*>(word), unsigned(most)); }

}  // namespace elapid

#define EXPORT(name) __attribute__((export_name(name)))

extern "C" {

EXPORT("maxThreads") int max_threads() { return elapid::kMaxThreads; }

EXPORT("scratchBytes") uint32_t scratch_bytes(int threads) { return uint32_t(elapid::Pool::scratch_bytes(threads)); }

EXPORT("initialise") void initialise(int threads, char* scratch) { elapid::pool.initialise(threads, scratch); }

EXPORT("execute") void execute(const double* words, uint32_t count) {
  elapid::execute(elapid::kernels_wasm, words, count, elapid::pool);
}

EXPORT("work") void work(int thread) { elapid::pool.work(thread); }

EXPORT("kernelCount") int kernel_count() { return elapid::kernels_wasm.count; }

EXPORT("kernelSignature") const char* kernel_signature(int kernel) { return elapid::kernels_wasm.signatures[kernel]; }

// The compiler may turn assignments and loops into calls of these; the module has no C library. Built with bulk memory,
// so the builtins are single instructions and do not call themselves.
void* memcpy(void* to, const void* from, size_t bytes) { return __builtin_memcpy(to, from, bytes); }
void* memset(void* to, int value, size_t bytes) { return __builtin_memset(to, value, bytes); }
}
