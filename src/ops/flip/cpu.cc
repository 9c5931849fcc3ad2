// Rows in the opposite order: copies, threaded by rows.
#include "../../backend/cpu/native/kernel.h"

namespace elapid {
namespace ELAPID_TARGET {

void flip(const Flip& a, Pool& pool) {
  each_block(pool, a.batch * a.length, max(i64(1), kElementwiseGrain / max(a.columns, i64(1))), [&](i64 begin, i64 end) {
    for (i64 row = begin; row < end; row++) {
      const float* from = a.x + (row + a.length - 1 - 2 * (row % a.length)) * a.xPitch;
      float* to = a.y + row * a.columns;
      for (i64 i = 0; i < a.columns; i++) to[i] = from[i];
    }
  });
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
