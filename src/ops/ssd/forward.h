// The forward pass: along a sequence run by run, and in each through the heads of the block, whose states stay in scratch.
#pragma once
#include "products.h"

namespace elapid {
namespace ELAPID_TARGET {

template <class Products>
struct SsdForwardScratch {
  Steps steps;
  Products of;
  float *sums, *products, *weights, *inputs, *outputs, *states;

  SsdForwardScratch(Carver carver, i64 chunk, i64 states_of_head) : steps(carver), of(carver, chunk, states_of_head) {
    const i64 rows = whole_rows(chunk);
    sums = carver.take(kSquare);
    products = carver.take(rows * kSquare);
    weights = carver.take(rows * kSquare);
    inputs = carver.take(rows * kFeatures);
    outputs = carver.take(rows * kFeatures);
    states = carver.next;
    of.begin(weights, chunk);
  }
  ~SsdForwardScratch() { of.end(); }
};

// A run of a sequence. `connected`: the state before it counts.
struct SsdRun {
  i64 begin, end, row, count;
  bool connected;

  // The run that begins there, and the last one of a chunk.
  static SsdRun from(const Ssd& a, i64 batch, i64 begin) {
    const i64 chunk_end = min((begin / a.chunk + 1) * a.chunk, a.length), row = batch * a.length;
    i64 end = begin + 1;
    while (end < chunk_end && !is_start(a, row + end)) end++;
    return of(a, row, begin, end);
  }
  static SsdRun last_of(const Ssd& a, i64 batch, i64 chunk) {
    const i64 end = min((chunk + 1) * a.chunk, a.length), row = batch * a.length;
    i64 begin = end - 1;
    while (begin > chunk * a.chunk && !is_start(a, row + begin)) begin--;
    return of(a, row, begin, end);
  }

 private:
  static SsdRun of(const Ssd& a, i64 row, i64 begin, i64 end) {
    return {begin, end, row + begin, end - begin, !is_start(a, row + begin) && (begin > 0 || a.initialState != nullptr)};
  }
};

template <class Products>
void read_run(const Ssd& a, const Block& block, const SsdRun& run, bool outputs, const SsdForwardScratch<Products>& to) {
  const i64 first = block.group * a.stateSize;
  to.of.read(a.B + run.row * a.bPitch + first, a.bPitch, a.C + run.row * a.cPitch + first, a.cPitch, run.count, outputs, to.products);
}

template <class Products>
void read_head(const Ssd& a, const Block& block, i64 h, const SsdRun& run, const SsdForwardScratch<Products>& to) {
  const float* const x = a.x + run.row * a.xPitch + block.column(a, h);
  read_steps(a, run.row, run.count, block.head + h, to.steps);
  copy_rows(x, a.xPitch, run.count, block.features, to.steps.delta, to.inputs, kFeatures);
  ask_for_next<0>(x, a.xPitch, run.count, block.features);
}

template <class Products>
void write_outputs(const Ssd& a, const Block& block, i64 h, const SsdRun& run, const float* state, const SsdForwardScratch<Products>& to) {
  const i64 column = block.column(a, h), pitch = a.heads * a.headSize;
  float* const y = a.y + run.row * pitch + column;
  ask_for_next<1>(y, pitch, run.count, block.features);
  each_decay(to.steps.exponent, run.count, to.sums, [&](i64 t, i64 s, vf decay) {
    // Products of later positions may be anything.
    store(to.weights + t * kSquare + s, decay == vf{} ? vf{} : decay * load(to.products + t * kSquare + s));
  });
  to.of.outputs(to.weights, to.inputs, run.count, block.width, run.connected ? state : nullptr, to.steps, to.outputs);
  add_skip(a, block, h, run.row, run.count, to.outputs);
  for (i64 t = 0; t < run.count; t++) {
    const float* const z = a.z != nullptr ? a.z + (run.row + t) * a.zPitch + column : nullptr;
    each_vector_of(block.features, [&](i64 i, i64 n) {
      vf value = load(to.outputs + t * kFeatures + i);
      if (z != nullptr) {
        const vf gate = load_first(z + i, n);
        value *= gate * fast_sigmoid(gate);
      }
      store_first(y + t * pitch + i, value, n);
    });
  }
}

// What a run makes of the state before it, or with connected = false of none. Nothing reads the inputs after this.
template <class Products>
void add_to_state(const Block& block, i64 count, bool connected, float* state, const SsdForwardScratch<Products>& to) {
  scale_rows(to.inputs, kFeatures, count, block.width, to.steps.to_end);
  to.of.add(to.inputs, count, block.width, connected ? to.steps.whole : nullptr, state);
}

// All of a block's positions in one task.
template <class Products>
void ssd_block(const Ssd& a, const Block& block, const SsdForwardScratch<Products>& to) {
  const i64 states = a.stateSize, chunks = ceil_div(a.length, a.chunk), size = whole_rows(states) * block.width;
  const i64 first_head = block.batch * a.heads + block.head;
  const auto place = [&](i64 h) { return ((first_head + h) * a.headSize + block.feature) * states; };
  for (i64 h = 0; h < block.heads; h++)
    state_in(a.initialState != nullptr ? a.initialState + place(h) : nullptr, block.features, states, block.width, to.states + h * size);
  for (i64 begin = 0; begin < a.length;) {
    const SsdRun run = SsdRun::from(a, block.batch, begin);
    if (a.states != nullptr && begin % a.chunk == 0) {
      for (i64 h = 0; h < block.heads; h++) {
        float* const kept = a.states + ((block.batch * chunks + begin / a.chunk) * a.heads + block.head + h) * states * a.headSize + block.feature;
        copy_out(to.states + h * size, block, states, kept, a.headSize);
      }
    }
    read_run(a, block, run, true, to);
    for (i64 h = 0; h < block.heads; h++) {
      read_head(a, block, h, run, to);
      write_outputs(a, block, h, run, to.states + h * size, to);
      add_to_state(block, run.count, run.connected, to.states + h * size, to);
    }
    begin = run.end;
  }
  for (i64 h = 0; h < block.heads; h++) state_out(to.states + h * size, block.features, states, block.width, a.finalState + place(h));
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
