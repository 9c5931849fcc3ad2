// Attention, and what keeps its keys and values. The mathematics and the memory plan are in README.md.
#include "../../backend/cpu/native/kernel.h"
#include "backward.h"
#include "few-queries.h"
#include "forward.h"

namespace elapid {
namespace ELAPID_TARGET {

void attention(const Attention& a, Pool& pool) {
  if (a.batch == 0 || a.length == 0 || a.heads == 0) return;
  if (is_few(a)) attend_few(a, pool);
  else attend_many(a, pool);
}

void attention_backward(const AttentionBackward& a, Pool& pool) {
  if (a.batch == 0 || a.length == 0 || a.heads == 0) return;
  attend_backward(a, pool);
}

void append_positions(const AppendPositions& a, Pool& pool) {
  each_row(pool, a.batch * a.length, 2 * a.heads * a.size, [&](i64 row) {
    const i64 b = row / a.length, position = a.positions[b] + row % a.length;
    if (position < 0 || position >= a.pagesPerRow * kPage) return;
    const i64 to = (i64(a.pages[b * a.pagesPerRow + position / kPage]) * kPage + position % kPage) * a.heads;
    for (i64 h = 0; h < a.heads; h++) {
      const i64 from = row * a.heads + h;
      const float *const key = a.keys + from * a.keyPitch, *const value = a.values + from * a.valuePitch;
      const i64 at = (to + h) * a.size;
      if (a.halfKeys) {
        half *const keys = reinterpret_cast<half*>(a.keyPool) + at, *const values = reinterpret_cast<half*>(a.valuePool) + at;
        each_vector_of(a.size, [&](i64 i, i64 n) {
          store_first(keys + i, load_first(key + i, n), n);
          store_first(values + i, load_first(value + i, n), n);
        });
      } else {
        __builtin_memcpy(a.keyPool + at, key, size_t(a.size) * sizeof(float));
        __builtin_memcpy(a.valuePool + at, value, size_t(a.size) * sizeof(float));
      }
    }
  });
}

void document_begins(const DocumentBegins& a, Pool&) {
  for (i64 b = 0; b < a.batch; b++) {
    i32 begin = a.before != nullptr ? a.before[b] : 0;
    for (i64 t = 0; t < a.length; t++) {
      if (a.starts != nullptr && a.starts[b * a.startsPitch + t] != 0) begin = i32((a.positions != nullptr ? a.positions[b] : 0) + t);
      a.begins[b * a.length + t] = begin;
    }
    if (a.after != nullptr) a.after[b] = begin;
  }
}

void advance(const Advance& a, Pool&) {
  for (i64 b = 0; b < a.count; b++) a.positions[b] += i32(a.by);
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
