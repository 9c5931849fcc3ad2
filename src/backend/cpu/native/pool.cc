#include "pool.h"

namespace elapid {
namespace {

constexpr uint32_t kOpen = 0x80000000u;
// About 20 µs on current processors: longer than the gap between two launches of one batch, shorter than a time slice.
constexpr int kSpins = 2000;

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

void Pool::take_tasks(int thread) {
  for (int i = 0; i < threads_; i++) {
    Run& run = runs_[(thread + i) % threads_];
    const int64_t end = run.end;
    // Looking first keeps threads that find a finished run from counting it up.
    while (__atomic_load_n(&run.next, __ATOMIC_RELAXED) < end) {
      const int64_t task = __atomic_fetch_add(&run.next, 1, __ATOMIC_RELAXED);
      if (task >= end) break;
      task_(context_, task, thread);
    }
  }
}

void Pool::run(int64_t count, Task task, void* context) {
  if (threads_ == 1 || count <= 1) {
    for (int64_t i = 0; i < count; i++) task(context, i, 0);
    return;
  }
  task_ = task;
  context_ = context;
  for (int i = 0; i < threads_; i++) {
    runs_[i].end = count * (i + 1) / threads_;
    __atomic_store_n(&runs_[i].next, count * i / threads_, __ATOMIC_RELAXED);
  }
  __atomic_store_n(&state_, kOpen, __ATOMIC_RELEASE);
  __atomic_fetch_add(&generation_, 1, __ATOMIC_SEQ_CST);
  if (__atomic_load_n(&sleepers_, __ATOMIC_SEQ_CST) != 0) wake_all(&generation_);
  take_tasks(0);
  // Close the job: workers that have not joined by now are not waited for.
  uint32_t joined = __atomic_and_fetch(&state_, ~kOpen, __ATOMIC_ACQ_REL);
  for (int spin = 0; joined != 0; spin++) {
    if (spin < kSpins) {
      pause();
    } else {
      __atomic_store_n(&owner_sleeps_, 1, __ATOMIC_SEQ_CST);
      wait_on(&state_, joined);
      __atomic_store_n(&owner_sleeps_, 0, __ATOMIC_SEQ_CST);
    }
    joined = __atomic_load_n(&state_, __ATOMIC_ACQUIRE);
  }
}

void Pool::work(int thread) {
  uint32_t seen = 0;
  for (;;) {
    uint32_t generation = __atomic_load_n(&generation_, __ATOMIC_ACQUIRE);
    for (int spin = 0; generation == seen; spin++) {
      if (spin < kSpins) {
        pause();
      } else {
        __atomic_fetch_add(&sleepers_, 1, __ATOMIC_SEQ_CST);
        wait_on(&generation_, seen);
        __atomic_fetch_sub(&sleepers_, 1, __ATOMIC_SEQ_CST);
      }
      generation = __atomic_load_n(&generation_, __ATOMIC_ACQUIRE);
    }
    seen = generation;
    if (__atomic_load_n(&stopping_, __ATOMIC_ACQUIRE)) return;
    uint32_t state = __atomic_load_n(&state_, __ATOMIC_ACQUIRE);
    while ((state & kOpen) &&
           !__atomic_compare_exchange_n(&state_, &state, state + 1, true, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
    }
    if (!(state & kOpen)) continue;
    take_tasks(thread);
    // A call of the system for each job would cost more than most jobs of a decoding step leave to win.
    if (__atomic_sub_fetch(&state_, 1, __ATOMIC_SEQ_CST) == 0 && __atomic_load_n(&owner_sleeps_, __ATOMIC_SEQ_CST) != 0) wake_all(&state_);
  }
}

void Pool::stop() {
  __atomic_store_n(&stopping_, 1, __ATOMIC_RELEASE);
  __atomic_fetch_add(&generation_, 1, __ATOMIC_SEQ_CST);
  wake_all(&generation_);
}

}  // namespace elapid
