#include "engine.h"

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <new>

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#else
#include <atomic>
#endif
#include <sys/mman.h>

namespace elapid {

#if defined(__linux__)
void wait_on(uint32_t* word, uint32_t expected) { syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, nullptr, nullptr, 0); }
void wake_all(uint32_t* word) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 0x7fffffff, nullptr, nullptr, 0); }
#else
void wait_on(uint32_t* word, uint32_t expected) { reinterpret_cast<std::atomic<uint32_t>*>(word)->wait(expected); }
void wake_all(uint32_t* word) { reinterpret_cast<std::atomic<uint32_t>*>(word)->notify_all(); }
#endif

namespace {

// A state that decays towards zero would end in subnormal numbers, which some processors take a hundred cycles for:
// results and operands that small are zero on the threads that run kernels.
void flush_subnormals() {
#if defined(__x86_64__)
  constexpr unsigned kFlushToZero = 0x8000, kDenormalsAreZero = 0x0040;
  __builtin_ia32_ldmxcsr(__builtin_ia32_stmxcsr() | kFlushToZero | kDenormalsAreZero);
#endif
}

}  // namespace

Engine::Engine(const KernelTable& table, int threads, std::function<void()> on_completed)
    : table_(table), on_completed_(std::move(on_completed)), scratch_bytes_(Pool::scratch_bytes(threads)), nanoseconds_(table.count) {
  // Reserved only: pages a kernel never touches cost nothing.
  void* memory = mmap(nullptr, scratch_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  scratch_ = static_cast<char*>(memory);
  pool_.initialise(threads, scratch_);
  for (int thread = 1; thread < threads; thread++) {
    workers_.emplace_back([this, thread] {
      flush_subnormals();
      pool_.work(thread);
    });
  }
  executor_ = std::thread([this] { run(); });
}

Engine::~Engine() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    __atomic_store_n(&stopping_, true, __ATOMIC_RELEASE);
  }
  arrived_.notify_one();
  executor_.join();
  pool_.stop();
  for (std::thread& worker : workers_) worker.join();
  munmap(scratch_, scratch_bytes_);
}

void Engine::submit(const double* words, size_t count, bool notify) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    queue_.push_back({std::vector<double>(words, words + count), notify});
  }
  arrived_.notify_one();
}

void Engine::run() {
  flush_subnormals();
  for (;;) {
    Submission submission;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      arrived_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
      if (stopping_) return;
      submission = std::move(queue_.front());
      queue_.pop_front();
    }
    execute(submission.words);
    __atomic_fetch_add(&completed_, 1, __ATOMIC_RELEASE);
    if (submission.notify) on_completed_();
  }
}

void Engine::execute(const std::vector<double>& words) {
  using Clock = std::chrono::steady_clock;
  const double* w = words.data();
  const double* next_stream = w;
  Clock::time_point before = Clock::now();
  for (const double* end = w + words.size(); w < end; w += int64_t(w[1])) {
    if (__atomic_load_n(&stopping_, __ATOMIC_ACQUIRE)) return;
    if (next_stream <= w) next_stream = look_ahead(w, end);
    table_.functions[int(w[0])](w + 2, pool_);
    const Clock::time_point after = Clock::now();
    nanoseconds_[size_t(w[0])] += uint64_t(std::chrono::nanoseconds(after - before).count());
    before = after;
  }
}

const double* Engine::look_ahead(const double* w, const double* end) {
  for (w += int64_t(w[1]); w < end; w += int64_t(w[1])) {
    const StreamFunction stream_of = table_.streams[int(w[0])];
    if (stream_of == nullptr) continue;
    const Stream stream = stream_of(w + 2, pool_.threads());
    // A single task is the owner's, who waits for nobody.
    if (stream.size.bytes <= stream.size.task_bytes) continue;
    pool_.expect(stream);
    return w;
  }
  pool_.expect(Stream{});
  return end;
}

#if defined(__x86_64__)
extern const KernelTable kernels_avx512;
extern const KernelTable kernels_avx2;
extern const KernelTable kernels_sse2;
#elif defined(__aarch64__)
extern const KernelTable kernels_neon;
#endif

namespace {

std::vector<const KernelTable*> runnable() {
  std::vector<const KernelTable*> tables;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    tables.push_back(&kernels_avx512);
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) tables.push_back(&kernels_avx2);
  tables.push_back(&kernels_sse2);
#elif defined(__aarch64__)
  tables.push_back(&kernels_neon);
#endif
  return tables;
}

}  // namespace

const KernelTable* find_kernels(const char* name) {
  for (const KernelTable* table : runnable()) {
    if (name == nullptr || std::strcmp(table->target, name) == 0) return table;
  }
  return nullptr;
}

std::vector<const char*> available_targets() {
  std::vector<const char*> names;
  for (const KernelTable* table : runnable()) names.push_back(table->target);
  return names;
}

void* allocate_aligned(size_t bytes) {
  constexpr size_t kHugePage = size_t(2) << 20;
  const bool large = bytes >= 2 * kHugePage;
  void* memory = nullptr;
  if (posix_memalign(&memory, large ? kHugePage : 64, bytes == 0 ? 64 : bytes) != 0) return nullptr;
#if defined(__linux__)
  if (large) madvise(memory, bytes, MADV_HUGEPAGE);
#endif
  return memory;
}

void free_aligned(void* memory) { std::free(memory); }

}  // namespace elapid
