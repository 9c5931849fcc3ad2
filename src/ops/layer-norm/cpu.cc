#include "../../backend/cpu/native/kernel.h"
#include "../rms-norm/normalize.h"

namespace elapid {
namespace ELAPID_TARGET {

void layer_norm(const LayerNorm& a, Pool& pool) { normalize_rows<true>(a, a.bias, pool); }

void layer_norm_backward(const LayerNormBackward& a, Pool& pool) { normalize_rows_backward<true>(a, a.dbias, pool); }

}  // namespace ELAPID_TARGET
}  // namespace elapid
