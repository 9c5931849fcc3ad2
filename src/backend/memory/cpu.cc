// Filling and copying: memory-bound, so a few tasks per thread are enough.
#include "../cpu/native/half.h"
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

// Rounds or widens.
template <class From, class To>
void convert_rows(const CopyRows& a, const From* source, To* destination, Pool& pool) {
  if (a.sourcePitch == a.columns && a.destinationPitch == a.columns) {
    each_block(pool, a.rows * a.columns, kElementwiseGrain, [&](i64 begin, i64 end) {
      each_vector_of(end - begin, [&](i64 i, i64 n) { store_first(destination + begin + i, load_first(source + begin + i, n), n); });
    });
    return;
  }
  each_row(pool, a.rows, a.columns, [&](i64 row) {
    const From* const from = source + row * a.sourcePitch;
    To* const to = destination + row * a.destinationPitch;
    each_vector_of(a.columns, [&](i64 i, i64 n) { store_first(to + i, load_first(from + i, n), n); });
  });
}

void copy_rows(const CopyRows& a, Pool& pool) {
  const auto source = reinterpret_cast<const half*>(a.source);
  const auto destination = reinterpret_cast<half*>(a.destination);
  if (a.sourceHalf && a.destinationHalf) copy_rows_of(source, destination, a.rows, a.columns, a.sourcePitch, a.destinationPitch, pool);
  else if (a.sourceHalf) convert_rows(a, source, a.destination, pool);
  else if (a.destinationHalf) convert_rows(a, a.source, destination, pool);
  else copy_rows_of(a.source, a.destination, a.rows, a.columns, a.sourcePitch, a.destinationPitch, pool);
}

void copy_rows_i32(const CopyRowsI32& a, Pool& pool) {
  copy_rows_of(a.source, a.destination, a.rows, a.columns, a.sourcePitch, a.destinationPitch, pool);
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
