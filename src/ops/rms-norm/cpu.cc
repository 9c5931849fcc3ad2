#include "../../backend/cpu/native/kernel.h"
#include "normalize.h"

namespace elapid {
namespace ELAPID_TARGET {

void rms_norm(const RmsNorm& a, Pool& pool) { normalize_rows<false>(a, nullptr, pool); }

void rms_norm_backward(const RmsNormBackward& a, Pool& pool) { normalize_rows_backward<false>(a, nullptr, pool); }

}  // namespace ELAPID_TARGET
}  // namespace elapid
