// State space duality. The mathematics and the memory plan are in README.md.
#include "../../backend/cpu/native/kernel.h"
#include "divided.h"
#include "step.h"

namespace elapid {
namespace ELAPID_TARGET {

// Calls f(block) for each task and part of the features.
template <class Args, class F>
ELAPID_INLINE void each_ssd_block(const Args& a, Pool& pool, F f) {
  pool.each(Block::tasks(a), [&](i64 task, int thread) {
    Block block = Block::of(a, task);
    for (i64 feature = 0; feature < a.headSize; feature += kMostFeatures) {
      block.take_features(a, feature);
      f(block, Carver{pool.scratch<float>(thread)});
    }
  });
}

template <class Products>
void ssd_with(const Ssd& a, Pool& pool) {
  const ChunkStates states(a, a.states, pool.shared<float>());
  if (is_divided(a, states, pool.threads())) return ssd_divided<Products>(a, states, pool);
  each_ssd_block(a, pool, [&](const Block& block, Carver scratch) {
    ssd_block(a, block, SsdForwardScratch<Products>(scratch, a.chunk, a.stateSize));
  });
}

void ssd(const Ssd& a, Pool& pool) {
#if ELAPID_LANES == 16
  if (a.bf16 && bf16_kernels() != nullptr) return ssd_with<Bf16Products>(a, pool);
#endif
  ssd_with<F32Products>(a, pool);
}

void ssd_backward(const SsdBackward& a, Pool& pool) {
  const i64 parts = a.batch * ceil_div(a.length, a.chunk) * a.heads * (a.headSize + 2);
  for (i64 i = 0; i < parts; i++) a.headParts[i] = 0.0f;
  const ChunkStates gradients(a, nullptr, pool.shared<float>());
  if (is_divided(a, gradients, pool.threads())) {
    ssd_backward_divided(a, gradients, pool);
  } else {
    each_ssd_block(a, pool, [&](const Block& block, Carver scratch) {
      ssd_block_backward(a, block, SsdBackwardScratch(scratch, a.chunk, a.stateSize, block.width));
    });
  }
  add_parts(a, pool);
}

void ssd_step(const SsdStep& a, Pool& pool) {
  const auto step = a.stateSize % kLanes == 0 ? step_head<true> : step_head<false>;
  each_row(pool, a.batch * a.heads, 2 * a.headSize * a.stateSize, [&](i64 i) { step(a, i / a.heads, i % a.heads); });
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
