// The native stream: one executor thread that runs submitted command buffers in order on a thread pool.
#pragma once
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "executor.h"

namespace elapid {

class Engine {
 public:
  // Starts at most `threads` threads: as many as the system gives. `on_completed` is called on the executor thread after each submission that asked for it.
  Engine(const KernelTable& table, int threads, std::function<void()> on_completed);
  // Finishes the launch under way, drops the others, ends the threads.
  ~Engine();

  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  int threads() const { return pool_.threads(); }
  void submit(const double* words, size_t count, bool notify);
  // Nanoseconds spent in each kernel of the table so far; exact when nothing is running.
  const std::vector<uint64_t>& kernel_nanoseconds() const { return nanoseconds_; }
  // Submissions finished so far.
  uint64_t completed() const { return __atomic_load_n(&completed_, __ATOMIC_ACQUIRE); }

 private:
  struct Submission {
    std::vector<double> words;
    bool notify;
  };

  void run();
  void execute(const std::vector<double>& words);
  // Tells the pool what the first launch after the one at `w` that streams a weight will read; returns that launch, or `end`.
  const double* look_ahead(const double* w, const double* end);

  const KernelTable& table_;
  std::function<void()> on_completed_;
  char* scratch_;
  size_t scratch_bytes_;
  Pool pool_;
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<Submission> queue_;
  bool stopping_ = false;
  uint64_t completed_ = 0;
  std::vector<uint64_t> nanoseconds_;
  std::vector<std::thread> workers_;
  std::thread executor_;
};

// 64-byte aligned memory; large blocks ask for huge pages. Null when there is none.
void* allocate_aligned(size_t bytes);
void free_aligned(void* memory);

}  // namespace elapid
