// Filling and copying: memory-bound, so a few tasks per thread are enough.
#include "../cpu/native/kernel.h"

namespace elapid {
namespace ELAPID_TARGET {

void fill(const Fill& a, Pool& pool) {
  each_block(pool, a.count, kElementwiseGrain, [&](i64 begin, i64 end) {
    for (i64 i = begin; i < end; i++) a.values[i] = a.value;
  });
}

template <class T>
void copy_rows_of(const T* source, T* destination, i64 rows, i64 columns, i64 source_pitch, i64 destination_pitch, Pool& pool) {
  if (source_pitch == columns && destination_pitch == columns) {
    each_block(pool, rows * columns, kElementwiseGrain, [&](i64 begin, i64 end) {
      __builtin_memcpy(destination + begin, source + begin, size_t(end - begin) * sizeof(T));
    });
    return;
  }
  each_block(pool, rows, max(i64(1), kElementwiseGrain / max(columns, i64(1))), [&](i64 begin, i64 end) {
    for (i64 row = begin; row < end; row++) {
      const T* from = source + row * source_pitch;
      T* to = destination + row * destination_pitch;
      for (i64 i = 0; i < columns; i++) to[i] = from[i];
    }
  });
}

void copy_rows(const CopyRows& a, Pool& pool) {
  copy_rows_of(a.source, a.destination, a.rows, a.columns, a.sourcePitch, a.destinationPitch, pool);
}

void copy_rows_i32(const CopyRowsI32& a, Pool& pool) {
  copy_rows_of(a.source, a.destination, a.rows, a.columns, a.sourcePitch, a.destinationPitch, pool);
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
