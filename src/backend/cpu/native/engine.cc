#include "engine.h"

#include <chrono>
#include <cstdlib>
#include <exception>
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
void wake(uint32_t* word, int most) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, most, nullptr, nullptr, 0); }
#else
void wait_on(uint32_t* word, uint32_t expected) { reinterpret_cast<std::atomic<uint32_t>*>(word)->wait(expected); }
void wake(uint32_t* word, int) { reinterpret_cast<std::atomic<uint32_t>*>(word)->notify_all(); }
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
  void* memory = mmap(nullptr, scratch_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  scratch_ = static_cast<char*>(memory);
  // Workers begin when it is known how many there are: a system may refuse some.
  std::lock_guard<std::mutex> lock(mutex_);
  try {
    executor_ = std::thread([this] { run(); });
  } catch (...) {
    munmap(scratch_, scratch_bytes_);
    throw;
  }
  int started = 1;
  try {
    workers_.reserve(size_t(threads));
    for (; started < threads; started++) {
      workers_.emplace_back([this, thread = started] {
        { std::lock_guard<std::mutex> begin(mutex_); }
        flush_subnormals();
        pool_.work(thread);
      });
    }
  } catch (const std::exception&) {
    // Fewer, then: `threads` tells.
  }
  pool_.initialise(started, scratch_);
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

void* allocate_aligned(size_t bytes) {
  constexpr size_t kHugePage = size_t(2) << 20;
  const size_t whole = (bytes + kHugePage - 1) / kHugePage * kHugePage;
  // A block in huge pages takes up to a third more than it asked for, and is there at once: each small page costs a fault.
  const bool large = bytes > 0 && 3 * whole <= 4 * bytes;
  if (large) bytes = whole;
  void* memory = nullptr;
  if (posix_memalign(&memory, large ? kHugePage : 64, bytes == 0 ? 64 : bytes) != 0) return nullptr;
#if defined(__linux__)
  if (large) madvise(memory, bytes, MADV_HUGEPAGE);
#endif
  return memory;
}

void free_aligned(void* memory) { std::free(memory); }

}  // namespace elapid
