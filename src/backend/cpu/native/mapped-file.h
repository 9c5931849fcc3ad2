// Files mapped into memory, and what becomes of a read behind the end of one that another program has cut: the system raises SIGBUS,
// which would end the process. Here the missing pages become zeros, so that the kernels end, and the mapping is marked as lost, for
// JavaScript to throw an error instead of giving results. Included by the addon alone.
#pragma once
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <mutex>
#include <string>

namespace elapid {

// A mapping. Entries are used again but never freed: the signal handler walks through them without a lock.
struct Mapping {
  std::atomic<uintptr_t> begin{0}, end{0};  // whole pages; begin is 0 while the entry is free
  std::atomic<bool> lost{false};
  uintptr_t address = 0;  // what map_file gave
  std::string path;
  Mapping* next = nullptr;
};

inline std::atomic<Mapping*> mappings{nullptr};
inline std::atomic<int> lost_mappings{0};
inline std::mutex mappings_mutex;
inline struct sigaction earlier_action {};
inline const uintptr_t page_bytes = uintptr_t(sysconf(_SC_PAGESIZE));

inline void on_bus_error(int signal, siginfo_t* info, void* context) {
  const uintptr_t at = reinterpret_cast<uintptr_t>(info->si_addr);
  for (Mapping* m = mappings.load(); m != nullptr; m = m->next) {
    const uintptr_t begin = m->begin.load(), end = m->end.load();
    if (begin == 0 || at < begin || at >= end) continue;
    // The pages behind this one are gone as well.
    void* start = reinterpret_cast<void*>(at - at % page_bytes);
    if (mmap(start, end - reinterpret_cast<uintptr_t>(start), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED) break;
    if (!m->lost.exchange(true)) lost_mappings++;
    return;
  }
  // Not ours: as it would have been without us. The instruction is run again and meets the earlier action.
  if ((earlier_action.sa_flags & SA_SIGINFO) != 0) return earlier_action.sa_sigaction(signal, info, context);
  if (earlier_action.sa_handler != SIG_DFL && earlier_action.sa_handler != SIG_IGN) return earlier_action.sa_handler(signal);
  sigaction(signal, &earlier_action, nullptr);
}

inline void watch_bus_errors() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action {};
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, &earlier_action);
  });
}

inline std::string path_of(int descriptor) {
  char path[PATH_MAX + 1] = {};
#ifdef __APPLE__
  if (fcntl(descriptor, F_GETPATH, path) != 0) path[0] = 0;
#else
  const std::string link = "/proc/self/fd/" + std::to_string(descriptor);
  if (readlink(link.c_str(), path, PATH_MAX) < 0) path[0] = 0;
#endif
  return path;
}

// The address of the byte at `offset` of a file, or 0 when the system refuses.
inline uintptr_t map_file(int descriptor, double offset, double bytes) {
  struct stat status {};
  // Pages beyond the end of the file cannot be read.
  if (fstat(descriptor, &status) != 0 || offset + bytes > double(status.st_size)) return 0;
  const uintptr_t lead = uintptr_t(offset) % page_bytes, start = uintptr_t(offset) - lead, size = lead + uintptr_t(bytes);
  // Writable, because tensors are: a page that is written to becomes a copy, the file stays as it is.
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, descriptor, off_t(start));
  if (memory == MAP_FAILED) return 0;
  watch_bus_errors();
  const std::lock_guard lock(mappings_mutex);
  Mapping* m = mappings.load();
  while (m != nullptr && m->begin.load() != 0) m = m->next;
  if (m == nullptr) {
    m = new Mapping;
    m->next = mappings.load();
    mappings.store(m);
  }
  const uintptr_t begin = reinterpret_cast<uintptr_t>(memory);
  m->path = path_of(descriptor);
  m->address = begin + lead;
  m->end.store(begin + (size + page_bytes - 1) / page_bytes * page_bytes);
  m->begin.store(begin);
  return m->address;
}

// Ends the mapping that gave this address.
inline void unmap_file(uintptr_t address) {
  const std::lock_guard lock(mappings_mutex);
  for (Mapping* m = mappings.load(); m != nullptr; m = m->next) {
    if (m->begin.load() == 0 || m->address != address) continue;
    munmap(reinterpret_cast<void*>(m->begin.load()), m->end.load() - m->begin.load());
    if (m->lost.exchange(false)) lost_mappings--;
    m->begin.store(0);
    return;
  }
}

}  // namespace elapid
