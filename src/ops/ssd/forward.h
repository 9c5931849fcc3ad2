// The forward pass: along a sequence run by run, and in each through the heads of the block, whose states stay in scratch.
#pragma once
#include "runs.h"

namespace elapid {
namespace ELAPID_TARGET {

struct SsdForwardScratch {
  Steps steps;
  float *sums, *b, *c, *b_columns, *products, *weights, *inputs, *outputs, *states;

  SsdForwardScratch(Carver carver, i64 chunk, i64 states_of_head) : steps(carver) {
    const i64 rows = whole_rows(chunk);
    sums = carver.take(kSquare);
    b = carver.take(rows * kStates);
    c = carver.take(rows * kStates);
    b_columns = carver.take(transposed_step(chunk) * states_of_head);
    products = carver.take(rows * kSquare);
    weights = carver.take(rows * kSquare);
    inputs = carver.take(rows * kFeatures);
    outputs = carver.take(rows * kFeatures);
    states = carver.next;
  }
};

// One head in one run; `has_state`: whether the state before it is not zero.
inline void ssd_head(const Ssd& a, const Block& block, i64 h, i64 row, i64 count, bool has_state, const SsdForwardScratch& to) {
  const i64 states = a.stateSize, width = block.width, column = block.column(a, h);
  float* const state = to.states + h * whole_rows(states) * width;
  const Steps& steps = to.steps;
  read_steps(a, row, count, block.head + h, steps);
  copy_rows(a.x + row * a.xPitch + column, a.xPitch, count, block.features, steps.delta, to.inputs, kFeatures);
  ask_for_next<0>(a.x + row * a.xPitch + column, a.xPitch, count, block.features);
  ask_for_next<1>(a.y + row * a.heads * a.headSize + column, a.heads * a.headSize, count, block.features);
  each_decay(steps.exponent, count, to.sums, [&](i64 t, i64 s, vf decay) {
    // Products of later positions may be anything.
    store(to.weights + t * kSquare + s, decay == vf{} ? vf{} : decay * load(to.products + t * kSquare + s));
  });
  const Left weights{to.weights};
  const Right inputs{to.inputs, kFeatures};
  if (has_state) {
    multiply_part<kStates, Part::kAll, Sum::kSet>({to.c}, count, states, {state, width}, width, {to.outputs, kFeatures});
    multiply_part<kSquare, Part::kLower, Sum::kScale>(weights, count, count, inputs, width, {to.outputs, kFeatures, steps.from_start, 1});
  } else {
    multiply_part<kSquare, Part::kLower, Sum::kSet>(weights, count, count, inputs, width, {to.outputs, kFeatures});
  }
  add_skip(a, block, h, row, count, to.outputs);
  for (i64 t = 0; t < count; t++) {
    float* const y = a.y + (row + t) * a.heads * a.headSize + column;
    const float* const z = a.z != nullptr ? a.z + (row + t) * a.zPitch + column : nullptr;
    each_vector_of(block.features, [&](i64 i, i64 n) {
      vf value = load(to.outputs + t * kFeatures + i);
      if (z != nullptr) {
        const vf gate = load_first(z + i, n);
        value *= gate * fast_sigmoid(gate);
      }
      store_first(y + i, value, n);
    });
  }
  scale_rows(to.inputs, kFeatures, count, width, steps.to_end);
  const Left across{to.b, kStates};
  if (has_state) multiply_part<0, Part::kAll, Sum::kScale>(across, states, count, inputs, width, {state, width, steps.whole, 0});
  else multiply_part<0, Part::kAll, Sum::kSet>(across, states, count, inputs, width, {state, width});
}

inline void ssd_block(const Ssd& a, const Block& block, const SsdForwardScratch& to) {
  const i64 states = a.stateSize, chunks = ceil_div(a.length, a.chunk), size = whole_rows(states) * block.width;
  const i64 first_head = block.batch * a.heads + block.head;
  for (i64 h = 0; h < block.heads; h++) {
    const float* from = a.initialState != nullptr ? a.initialState + ((first_head + h) * a.headSize + block.feature) * states : nullptr;
    state_in(from, block.features, states, block.width, to.states + h * size);
  }
  bool has_state = a.initialState != nullptr;
  for (i64 begin = 0, end; begin < a.length; begin = end) {
    const i64 row = block.batch * a.length + begin;
    const i64 chunk_end = min((begin / a.chunk + 1) * a.chunk, a.length);
    for (end = begin + 1; end < chunk_end && !is_start(a, row - begin + end); end++) {}
    const i64 count = end - begin;
    if (a.states != nullptr && begin % a.chunk == 0) {
      for (i64 h = 0; h < block.heads; h++) {
        float* const kept = a.states + ((block.batch * chunks + begin / a.chunk) * a.heads + block.head + h) * states * a.headSize + block.feature;
        for (i64 n = 0; n < states; n++)
          __builtin_memcpy(kept + n * a.headSize, to.states + h * size + n * block.width, size_t(block.features) * sizeof(float));
      }
    }
    copy_rows(a.B + row * a.bPitch + block.group * states, a.bPitch, count, states, nullptr, to.b, kStates);
    copy_rows(a.C + row * a.cPitch + block.group * states, a.cPitch, count, states, nullptr, to.c, kStates);
    const Right columns = transposed(to.b, kStates, count, states, to.b_columns);
    multiply_part<kStates, Part::kLowerResult, Sum::kSet>({to.c}, count, states, columns, count, {to.products, kSquare});
    if (is_start(a, row)) has_state = false;
    for (i64 h = 0; h < block.heads; h++) ssd_head(a, block, h, row, count, has_state, to);
    has_state = true;
  }
  for (i64 h = 0; h < block.heads; h++) {
    state_out(to.states + h * size, block.features, states, block.width, a.finalState + ((first_head + h) * a.headSize + block.feature) * states);
  }
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
