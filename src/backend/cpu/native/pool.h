// The thread pool. Kernels cut their work into tasks whose results do not depend on which thread runs them, so that a run
// can be repeated to the bit.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace elapid {

// Bytes of scratch memory a thread has to itself, and bytes the threads of one kernel share. The first serves packed
// panels and one chunk of scan states; both are reserved address space and cost memory only where touched (natively).
constexpr size_t kThreadScratchBytes = size_t(4) << 20;
constexpr size_t kSharedScratchBytes = size_t(8) << 20;
// The one bound on threads: both engines tell it to JavaScript. Natively a thread more costs 4 MiB of addresses and two cache lines
// here; in wasm those 4 MiB are a thousandth of all there is.
#if defined(__wasm__)
constexpr int kMaxThreads = 256;
#else
constexpr int kMaxThreads = 1024;
#endif

// Bytes that a launch reads once, in order, and those of them that belong to a task. No bytes: it does not read so.
struct Streamed {
  int64_t bytes = 0;
  int64_t task_bytes = 0;
};

struct Stream {
  const void* base = nullptr;
  Streamed size;
};

class Pool {
 public:
  using Task = void (*)(void* context, int64_t task, int thread);

  int threads() const { return threads_; }

  // Runs tasks 0 … count − 1, each once, on as many threads as there are tasks for; returns when all are done. The caller is
  // thread 0. A thread begins with a run of tasks of its own, in order, and helps the others when it is done: what neighbouring tasks
  // read from memory is one long stream, and the same part of an array comes to the same thread's caches again.
  void run(int64_t count, Task task, void* context);

  // The same for a callable (int64_t task, int thread).
  template <class F>
  void each(int64_t count, F f) {
    run(count, [](void* context, int64_t task, int thread) { (*static_cast<F*>(context))(task, thread); }, &f);
  }

  // Until the next call, threads that wait may bring their own tasks' share of `stream`, which a later `run` will read, into
  // their caches: each the beginning, once. Called by the owner between runs.
  void expect(const Stream& stream);

  // Scratch of one thread: kThreadScratchBytes, 64-byte aligned.
  template <class T>
  T* scratch(int thread) const {
    return reinterpret_cast<T*>(scratch_ + size_t(thread) * kThreadScratchBytes);
  }

  // Scratch all threads see: kSharedScratchBytes, 64-byte aligned, free between kernels.
  template <class T>
  T* shared() const {
    return reinterpret_cast<T*>(scratch_ + size_t(threads_) * kThreadScratchBytes);
  }

  static size_t scratch_bytes(int threads) { return size_t(threads) * kThreadScratchBytes + kSharedScratchBytes; }

  // `scratch` has scratch_bytes(threads), 64-byte aligned. The owner starts threads − 1 workers that call `work`.
  void initialise(int threads, char* scratch) {
    threads_ = threads;
    scratch_ = scratch;
  }

  // Body of worker `thread` (1 … threads − 1); returns after `stop`.
  void work(int thread);
  void stop();

 private:
  void take_tasks(int thread);
  // Threads that have a run of tasks of their own.
  int sharers(int64_t count) const { return count < threads_ ? int(count) : threads_; }
  // The first task of such a thread's run; that of thread `sharers` is the count.
  static int64_t first_task(int64_t count, int thread, int sharers) { return count * thread / sharers; }
  // What a thread does between two looks at what it waits for.
  void pause(int thread);
  void prefetch(int thread);

  struct alignas(64) Run {
    int64_t next = 0;
    int64_t end = 0;
  };

  int threads_ = 1;
  char* scratch_ = nullptr;
  Task task_ = nullptr;
  void* context_ = nullptr;
  int sharers_ = 1;
  Run runs_[kMaxThreads];
  // What a thread has yet to bring of the stream whose edition it has seen.
  struct alignas(64) Ahead {
    const char* next = nullptr;
    const char* end = nullptr;
    uint32_t seen = 0;
  };
  Ahead ahead_[kMaxThreads];
  // Odd while the stream is being replaced.
  alignas(64) uint32_t edition_ = 0;
  Stream stream_;
  // Bit 31: a job is open; the rest: workers that have joined it. A job's fields change only while this is zero.
  alignas(64) uint32_t state_ = 0;
  alignas(64) uint32_t generation_ = 0;
  uint32_t sleepers_ = 0;
  uint32_t owner_sleeps_ = 0;
  uint32_t stopping_ = 0;
};

// Sleeps while *word == expected (may wake early); wakes at most so many sleepers on word. Defined per platform.
void wait_on(uint32_t* word, uint32_t expected);
void wake(uint32_t* word, int most);

}  // namespace elapid
