#pragma once
#include "../../backend/cpu/native/simd.h"

namespace elapid {
namespace ELAPID_TARGET {

// The largest values seen so far and where they stood, lane by lane.
struct RunningMax {
  vf value;
  vi position;

  // Takes x at `at`, which must come later than what was seen: of equal values the first stays.
  ELAPID_INLINE void take(vf x, vi at) {
    const vi larger = (x > value) | ((x != x) & (value == value));
    value = larger ? x : value;
    position = larger ? at : position;
  }
};

}  // namespace ELAPID_TARGET
}  // namespace elapid
