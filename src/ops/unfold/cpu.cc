// Patches of images: copies, threaded by patches, and back sums, threaded by planes of pixels.
#include "../../backend/cpu/native/kernel.h"

namespace elapid {
namespace ELAPID_TARGET {

void unfold(const Unfold& a, Pool& pool) {
  const i64 rows = (a.height - a.side) / a.stride + 1, columns = (a.width - a.side) / a.stride + 1;
  const i64 numbers = a.channels * a.side * a.side;
  each_block(pool, a.batch * rows * columns, max(i64(1), kElementwiseGrain / max(numbers, i64(1))), [&](i64 begin, i64 end) {
    for (i64 m = begin; m < end; m++) {
      const i64 image = m / (rows * columns), top = m / columns % rows * a.stride, left = m % columns * a.stride;
      float* to = a.y + m * a.yPitch;
      for (i64 c = 0; c < a.channels; c++) {
        const float* from = a.x + ((image * a.channels + c) * a.height + top) * a.xPitch + left;
        for (i64 i = 0; i < a.side; i++, from += a.xPitch)
          for (i64 j = 0; j < a.side; j++) *to++ = from[j];
      }
    }
  });
}

void unfold_backward(const UnfoldBackward& a, Pool& pool) {
  const i64 rows = (a.height - a.side) / a.stride + 1, columns = (a.width - a.side) / a.stride + 1;
  pool.each(a.batch * a.channels, [&](i64 plane, int) {
    const i64 image = plane / a.channels, channel = plane % a.channels;
    float* const pixels = a.dx + plane * a.height * a.xPitch;
    for (i64 i = 0; i < a.height * a.xPitch; i++) pixels[i] = 0.0f;
    for (i64 m = 0; m < rows * columns; m++) {
      const float* from = a.dy + (image * rows * columns + m) * a.yPitch + channel * a.side * a.side;
      float* to = pixels + m / columns * a.stride * a.xPitch + m % columns * a.stride;
      for (i64 i = 0; i < a.side; i++, to += a.xPitch)
        for (i64 j = 0; j < a.side; j++) to[j] += *from++;
    }
  });
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
