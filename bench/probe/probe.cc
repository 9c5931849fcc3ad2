// What this processor can do: measured rates to hold the package's kernels against.
//
//   probe NAME:THREADS[:BYTES] …   prints a number for each, or "null" where the processor has no such unit
//
//   fma        f32 multiply-adds in vector registers, GFLOP/s
//   muladd128  f32 products and sums as separate instructions on 128 bits (all that wasm SIMD128 has), GFLOP/s
//   bf16       bf16 products summed in f32: AMX tiles, or else the AVX-512 dot product, GFLOP/s
//   int8       int8 products summed in int32: AMX tiles, or else VNNI, GFLOP/s
//   exp        2^x as the scan computes it, from and to the first-level cache, Gexp/s
//   read       reading BYTES again and again, each thread its own part, GB/s
//
// Each is timed in slices of some milliseconds, all threads from a common start to the last one's end; the best counts.
#include <immintrin.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#if defined(__AVX512F__)
#define ELAPID_LANES 16
#elif defined(__AVX2__)
#define ELAPID_LANES 8
#else
#define ELAPID_LANES 4
#endif
#define ELAPID_TARGET probe
#include "../../src/backend/cpu/native/simd.h"
#include "../../src/ops/selective-scan/scan-math.h"

namespace {

using namespace elapid::probe;
using elapid::i64;

constexpr int kSlices = 24;
constexpr double kSliceSeconds = 0.002;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// work(thread, rounds) does `rounds` times its work; the result is rounds a second, over all threads.
double rounds_per_second(int threads, const std::function<void(int, i64)>& work) {
  i64 rounds = 1;
  for (;; rounds *= 2) {
    const double start = now();
    work(0, rounds);
    const double seconds = now() - start;
    if (seconds < kSliceSeconds / 4 && rounds < (i64(1) << 40)) continue;
    rounds = std::max(i64(1), i64(double(rounds) * kSliceSeconds / seconds));
    break;
  }
  std::atomic<int> arrived{0}, done{0}, slice{0};
  const auto each = [&](int thread) {
    for (int s = 0; s < kSlices; s++) {
      arrived.fetch_add(1);
      while (slice.load() <= s) {
      }
      work(thread, rounds);
      done.fetch_add(1);
    }
  };
  std::vector<std::thread> others;
  for (int t = 1; t < threads; t++) others.emplace_back(each, t);
  double best = 1e30;
  for (int s = 0; s < kSlices; s++) {
    while (arrived.load() < (s + 1) * (threads - 1)) {
    }
    const double start = now();
    slice.store(s + 1);
    work(0, rounds);
    while (done.load() < (s + 1) * (threads - 1)) {
    }
    best = std::min(best, now() - start);
  }
  for (auto& other : others) other.join();
  return double(rounds) * threads / best;
}

// Keeps the compiler from knowing a value.
template <class T>
inline __attribute__((always_inline)) void hide(T& x) {
  asm volatile("" : "+x"(x));
}
#if defined(__AVX512F__)
inline __attribute__((always_inline)) void hide(vf& x) { asm volatile("" : "+v"(x)); }
#endif

double fma_rate(int threads) {
  constexpr int kChains = 12;
  const double rate = rounds_per_second(threads, [](int, i64 rounds) {
    vf sums[kChains], x = splat(1.0000001f), y = splat(1e-9f);
#pragma GCC unroll 16
    for (int c = 0; c < kChains; c++) sums[c] = splat(1.0f);
    for (i64 i = 0; i < rounds; i++) {
#pragma GCC unroll 16
      for (int c = 0; c < kChains; c++) {
        sums[c] = sums[c] * x + y;
        hide(sums[c]);
      }
    }
  });
  return rate * kChains * 2 * kLanes / 1e9;
}

double muladd128_rate(int threads) {
  constexpr int kChains = 8;
  const double rate = rounds_per_second(threads, [](int, i64 rounds) {
    __m128 sums[kChains], x = _mm_set1_ps(1.0f);
#pragma GCC unroll 16
    for (int c = 0; c < kChains; c++) sums[c] = _mm_set1_ps(1.0f);
    for (i64 i = 0; i < rounds; i++) {
#pragma GCC unroll 16
      for (int c = 0; c < kChains; c++) {
        __m128 product = _mm_mul_ps(x, x);
        hide(product);
        sums[c] = _mm_add_ps(sums[c], product);
        hide(sums[c]);
        hide(x);
      }
    }
  });
  return rate * kChains * 2 * 4 / 1e9;
}

#if defined(__AMX_BF16__) && defined(__AMX_INT8__)
struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t column_bytes[16] = {};
  uint8_t rows[16] = {};
};

// The operating system grants tiles on request (arch_prctl: ARCH_REQ_XCOMP_PERM, feature 18).
bool amx_allowed() { return syscall(SYS_arch_prctl, 0x1023, 18) == 0; }

template <bool kInt8>
double amx_rate(int threads) {
  const double rate = rounds_per_second(threads, [](int, i64 rounds) {
    TileConfig config;
    for (int t = 0; t < 8; t++) {
      config.column_bytes[t] = 64;
      config.rows[t] = 16;
    }
    _tile_loadconfig(&config);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_zero(4);
    _tile_zero(5);
    _tile_zero(6);
    _tile_zero(7);
    for (i64 i = 0; i < rounds; i++) {
      if (kInt8) {
        _tile_dpbssd(0, 4, 6);
        _tile_dpbssd(1, 4, 7);
        _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(3, 5, 7);
      } else {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
      }
    }
    _tile_release();
  });
  return rate * 4 * 16 * 16 * (kInt8 ? 64 : 32) * 2 / 1e9;
}
#endif

// Rates of the fastest unit there is; negative: none.
double bf16_rate([[maybe_unused]] int threads) {
#if defined(__AMX_BF16__) && defined(__AMX_INT8__)
  if (amx_allowed()) return amx_rate<false>(threads);
#endif
#if defined(__AVX512BF16__)
  constexpr int kChains = 12;
  const double rate = rounds_per_second(threads, [](int, i64 rounds) {
    __m512 sums[kChains];
    __m512bh x = (__m512bh)_mm512_set1_epi16(0x3f80);
#pragma GCC unroll 16
    for (int c = 0; c < kChains; c++) sums[c] = _mm512_set1_ps(0.0f);
    for (i64 i = 0; i < rounds; i++) {
#pragma GCC unroll 16
      for (int c = 0; c < kChains; c++) {
        sums[c] = _mm512_dpbf16_ps(sums[c], x, x);
        asm volatile("" : "+v"(sums[c]));
      }
    }
  });
  return rate * kChains * 64 / 1e9;
#else
  return -1;
#endif
}

double int8_rate([[maybe_unused]] int threads) {
#if defined(__AMX_BF16__) && defined(__AMX_INT8__)
  if (amx_allowed()) return amx_rate<true>(threads);
#endif
#if defined(__AVX512VNNI__)
  constexpr int kChains = 12;
  const double rate = rounds_per_second(threads, [](int, i64 rounds) {
    __m512i sums[kChains], x = _mm512_set1_epi8(1);
#pragma GCC unroll 16
    for (int c = 0; c < kChains; c++) sums[c] = _mm512_setzero_si512();
    for (i64 i = 0; i < rounds; i++) {
#pragma GCC unroll 16
      for (int c = 0; c < kChains; c++) {
        sums[c] = _mm512_dpbusd_epi32(sums[c], x, x);
        asm volatile("" : "+v"(sums[c]));
      }
    }
  });
  return rate * kChains * 128 / 1e9;
#else
  return -1;
#endif
}

double exp_rate(int threads) {
  constexpr i64 kCount = 2048;  // 8 KiB in, 8 KiB out
  const double rate = rounds_per_second(threads, [](int, i64 rounds) {
    alignas(64) float x[kCount], y[kCount];
    for (i64 i = 0; i < kCount; i++) x[i] = -float(i) / 128;
    for (i64 r = 0; r < rounds; r++) {
      for (i64 i = 0; i < kCount; i += 8 * kLanes) {
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++) store(y + i + j * kLanes, elapid::probe::exp2(load(x + i + j * kLanes)));
      }
      asm volatile("" : : "r"(y) : "memory");
    }
  });
  return rate * kCount / 1e9;
}

// Sums of kStreams parts of [begin, end), a cache line of each in turn.
template <int kStreams>
uint64_t read_part(const char* begin, size_t bytes) {
  constexpr size_t kLine = 64;
  typedef uint64_t Line __attribute__((vector_size(kLine)));
  const size_t part = bytes / kStreams / (8 * kLine) * (8 * kLine);
  Line sums[4] = {};
  for (size_t at = 0; at < part; at += 8 * kLine / kStreams) {
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
      Line line;
      std::memcpy(&line, begin + size_t(j % kStreams) * part + at + size_t(j / kStreams) * kLine, kLine);
      sums[j % 4] ^= line;
    }
  }
  const Line sum = sums[0] ^ sums[1] ^ sums[2] ^ sums[3];
  return sum[0] ^ sum[1] ^ sum[2] ^ sum[3] ^ sum[4] ^ sum[5] ^ sum[6] ^ sum[7];
}

double read_rate(int threads, size_t bytes) {
  constexpr size_t kPage = size_t(2) << 20;
  const size_t part = std::max(size_t(4096), bytes / size_t(threads) / 4096 * 4096);
  const size_t total = (part * size_t(threads) + kPage - 1) / kPage * kPage;
  char* memory = static_cast<char*>(std::aligned_alloc(kPage, total));
  madvise(memory, total, MADV_HUGEPAGE);
  std::memset(memory, 1, total);
  double best = 0;
  for (int streams : {1, 4}) {
    const double rate = rounds_per_second(threads, [&](int thread, i64 rounds) {
      uint64_t sum = 0;
      for (i64 r = 0; r < rounds; r++) {
        const char* mine = memory + part * size_t(thread);
        sum ^= streams == 1 ? read_part<1>(mine, part) : read_part<4>(mine, part);
        asm volatile("" : "+r"(sum) : : "memory");
      }
    });
    best = std::max(best, rate * double(part) / 1e9);
  }
  std::free(memory);
  return best;
}

}  // namespace

int main(int count, char** arguments) {
  for (int i = 1; i < count; i++) {
    const std::string request = arguments[i];
    const size_t first = request.find(':'), second = request.find(':', first + 1);
    const std::string name = request.substr(0, first);
    const int threads = first == std::string::npos ? 1 : std::atoi(request.c_str() + first + 1);
    const size_t bytes = second == std::string::npos ? size_t(256) << 20 : std::strtoull(request.c_str() + second + 1, nullptr, 10);
    double rate = -1;
    if (name == "fma") rate = fma_rate(threads);
    if (name == "muladd128") rate = muladd128_rate(threads);
    if (name == "bf16") rate = bf16_rate(threads);
    if (name == "int8") rate = int8_rate(threads);
    if (name == "exp") rate = exp_rate(threads);
    if (name == "read") rate = read_rate(threads, bytes);
    if (rate < 0) std::puts("null");
    else std::printf("%.6g\n", rate);
  }
}
