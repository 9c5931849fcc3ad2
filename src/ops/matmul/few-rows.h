// How many rows of A are few, for products that read W as it lies.
#pragma once
#include "../../backend/cpu/native/simd.h"

namespace elapid {
namespace ELAPID_TARGET {

// Rows of one pass over W.
constexpr int kSkinnyRows = 8;
// Rows up to which packing W does not pay: passes of kSkinnyRows rows each, the later ones from the caches.
constexpr i64 kFewRows = 2 * kSkinnyRows;

}  // namespace ELAPID_TARGET
}  // namespace elapid
