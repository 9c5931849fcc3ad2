// The forward pass: along a sequence run by run, and in each through the heads of the block, whose states stay in scratch.
#pragma once
#include "runs.h"

namespace elapid {
namespace ELAPID_TARGET {

struct SsdForwardScratch {
  Steps steps;
  float *sums, *c_rows, *b_columns, *b_across, *products, *weights, *panels, *inputs, *outputs, *states;

  SsdForwardScratch(Carver carver, i64 chunk, i64 states_of_head, i64 width) : steps(carver) {
    const i64 square = chunk * whole_vectors(chunk);
    sums = carver.take(kMostRun + 16);
    c_rows = carver.take(whole_rows(chunk) * states_of_head);
    b_columns = carver.take(whole_columns(chunk) * states_of_head);
    b_across = carver.take(whole_rows(states_of_head) * chunk);
    products = carver.take(square);
    weights = carver.take(square);
    panels = carver.take(whole_rows(chunk) * chunk);
    inputs = carver.take(chunk * width);
    outputs = carver.take(chunk * width);
    states = carver.next;
  }
};

// One head in one run; `has_state`: whether the state before it is not zero.
inline void ssd_head(const Ssd& a, const Block& block, i64 h, i64 row, i64 count, bool has_state, const SsdForwardScratch& to) {
  const i64 states = a.stateSize, width = block.width, square = whole_vectors(count), column = block.column(a, h);
  float* const state = to.states + h * states * width;
  const Steps& steps = to.steps;
  read_steps(a, row, count, block.head + h, steps);
  copy_rows(a.x + row * a.xPitch + column, a.xPitch, count, block.features, width, steps.delta, to.inputs);
  each_decay(steps.exponent, count, to.sums, [&](i64 t, i64 s, vf decay) {
    // Products of later positions may be anything.
    store(to.weights + t * square + s, decay == vf{} ? vf{} : decay * load(to.products + t * square + s));
  });
  rows_as_lines(to.weights, square, count, count, to.panels);
  if (has_state) {
    multiply_part<Part::kAll>(to.c_rows, count, states, Columns::rows(state, width), width, to.outputs, width, false);
    scale_rows(to.outputs, count, width, steps.from_start);
  }
  multiply_part<Part::kLower>(to.panels, count, count, Columns::rows(to.inputs, width), width, to.outputs, width, has_state);
  add_skip(a, block, h, row, count, to.outputs);
  for (i64 t = 0; t < count; t++) {
    float* const y = a.y + (row + t) * a.heads * a.headSize + column;
    const float* const z = a.z != nullptr ? a.z + (row + t) * a.zPitch + column : nullptr;
    each_vector_of(block.features, [&](i64 i, i64 n) {
      vf value = load(to.outputs + t * width + i);
      if (z != nullptr) {
        const vf gate = load_first(z + i, n);
        value *= gate * fast_sigmoid(gate);
      }
      store_first(y + i, value, n);
    });
  }
  scale_rows(to.inputs, count, width, steps.to_end);
  if (has_state) scale_all(state, states * width, steps.from_start[count - 1]);
  multiply_part<Part::kAll>(to.b_across, states, count, Columns::rows(to.inputs, width), width, state, width, has_state);
}

inline void ssd_block(const Ssd& a, const Block& block, const SsdForwardScratch& to) {
  const i64 states = a.stateSize, chunks = ceil_div(a.length, a.chunk), size = states * block.width;
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
    const float* const b = a.B + row * a.bPitch + block.group * states;
    rows_as_lines(a.C + row * a.cPitch + block.group * states, a.cPitch, count, states, to.c_rows);
    columns_as_lines(b, a.bPitch, count, states, to.b_across);
    const Columns columns = rows_as_columns(b, a.bPitch, count, states, to.b_columns);
    const i64 square = whole_vectors(count);
    multiply_part<Part::kLowerResult>(to.c_rows, count, states, columns, min(square, whole_columns(count)), to.products, square, false);
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
