#include "pool.h"

namespace elapid {
namespace {

constexpr uint32_t kOpen = 0x80000000u;
// About 20 µs on current processors: longer than the gap between two launches of one batch, shorter than a time slice.
constexpr int kSpins = 2000;

// Of a stream, the most that a thread brings ahead: half of a small second-level cache, and what memory delivers in some
// tens of microseconds.
constexpr int64_t kMostAhead = int64_t(512) << 10;
// Lines asked for between two looks: so few that a job is not noticed late.
constexpr int kLinesAtOnce = 4;

}  // namespace

void Pool::expect(const Stream& stream) {
  const uint32_t edition = edition_;
  __atomic_store_n(&edition_, edition + 1, __ATOMIC_RELAXED);
  __atomic_thread_fence(__ATOMIC_RELEASE);
  __atomic_store_n(&stream_.base, stream.base, __ATOMIC_RELAXED);
  __atomic_store_n(&stream_.size.bytes, stream.size.bytes, __ATOMIC_RELAXED);
  __atomic_store_n(&stream_.size.task_bytes, stream.size.task_bytes, __ATOMIC_RELAXED);
  __atomic_store_n(&edition_, edition + 2, __ATOMIC_RELEASE);
}

void Pool::prefetch(int thread) {
  Ahead& ahead = ahead_[thread];
  const uint32_t edition = __atomic_load_n(&edition_, __ATOMIC_ACQUIRE);
  if (edition != ahead.seen) {
    const char* const base = static_cast<const char*>(__atomic_load_n(&stream_.base, __ATOMIC_RELAXED));
    const int64_t bytes = __atomic_load_n(&stream_.size.bytes, __ATOMIC_RELAXED);
    const int64_t task_bytes = __atomic_load_n(&stream_.size.task_bytes, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    // Of two editions at once nothing is taken: what they say together may lie beyond either.
    if (edition % 2 != 0 || __atomic_load_n(&edition_, __ATOMIC_RELAXED) != edition) return;
    const int64_t tasks = bytes == 0 ? 0 : (bytes + task_bytes - 1) / task_bytes;
    const int sharing = sharers(tasks);
    ahead.seen = edition;
    ahead.next = ahead.end = base;
    if (thread < sharing) {
      const int64_t begin = first_task(tasks, thread, sharing) * task_bytes, end = first_task(tasks, thread + 1, sharing) * task_bytes;
      ahead.next = base + begin;
      ahead.end = base + (end - begin > kMostAhead ? begin + kMostAhead : end < bytes ? end : bytes);
    }
  }
  for (int i = 0; i < kLinesAtOnce && ahead.next < ahead.end; i++, ahead.next += 64) __builtin_prefetch(ahead.next, 0, 2);
}

// wasm cannot prefetch.
inline void Pool::pause([[maybe_unused]] int thread) {
#if defined(__x86_64__)
  prefetch(thread);
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  prefetch(thread);
  asm volatile("yield");
#endif
}

void Pool::take_tasks(int thread) {
  const int sharing = sharers_;
  for (int i = 0; i < sharing; i++) {
    Run& run = runs_[(thread + i) % sharing];
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
  const int sharing = sharers_ = sharers(count);
  for (int i = 0; i < sharing; i++) {
    runs_[i].end = first_task(count, i + 1, sharing);
    __atomic_store_n(&runs_[i].next, first_task(count, i, sharing), __ATOMIC_RELAXED);
  }
  __atomic_store_n(&state_, kOpen, __ATOMIC_RELEASE);
  __atomic_fetch_add(&generation_, 1, __ATOMIC_SEQ_CST);
  if (__atomic_load_n(&sleepers_, __ATOMIC_SEQ_CST) != 0) wake(&generation_, sharing - 1);
  take_tasks(0);
  // Close the job: workers that have not joined by now are not waited for.
  uint32_t joined = __atomic_and_fetch(&state_, ~kOpen, __ATOMIC_ACQ_REL);
  for (int spin = 0; joined != 0; spin++) {
    if (spin < kSpins) {
      pause(0);
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
        pause(thread);
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
    if (__atomic_sub_fetch(&state_, 1, __ATOMIC_SEQ_CST) == 0 && __atomic_load_n(&owner_sleeps_, __ATOMIC_SEQ_CST) != 0) wake(&state_, 1);
  }
}

void Pool::stop() {
  __atomic_store_n(&stopping_, 1, __ATOMIC_RELEASE);
  __atomic_fetch_add(&generation_, 1, __ATOMIC_SEQ_CST);
  wake(&generation_, kMaxThreads);
}

}  // namespace elapid
