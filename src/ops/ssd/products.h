// The products of the forward pass, in float32 or on a unit for bfloat16. Both have
//   begin, end   called by a task before and after its products
//   read         takes what a run needs of B for what it adds to states, and with `outputs` also C and C Bᵀ
//   outputs      y = w ⊙ C S + W X: W a lower triangle in rows of kSquare, X and y in rows of kFeatures; a state of null is zero
//   add          what a run adds to a state: S = decay·S + Bᵀ X, or Bᵀ X where the decay is null
#pragma once
#include "runs.h"
#if ELAPID_LANES == 16
#include "../../backend/cpu/native/bf16.h"
#endif

namespace elapid {
namespace ELAPID_TARGET {

struct F32Products {
  i64 states;
  float *b, *c, *b_columns;

  F32Products(Carver& carver, i64 chunk, i64 states) : states(states) {
    b = carver.take(whole_rows(chunk) * kStates);
    c = carver.take(whole_rows(chunk) * kStates);
    b_columns = carver.take(transposed_step(chunk) * states);
  }

  void begin(float*, i64) const {}
  void end() const {}

  void read(const float* from_b, i64 b_pitch, const float* from_c, i64 c_pitch, i64 count, bool outputs, float* products) const {
    copy_rows(from_b, b_pitch, count, states, nullptr, b, kStates);
    if (!outputs) return;
    copy_rows(from_c, c_pitch, count, states, nullptr, c, kStates);
    const Right columns = transposed(b, kStates, count, states, b_columns);
    multiply_part<kStates, Part::kLowerResult, Sum::kSet>({c}, count, states, columns, count, {products, kSquare});
  }

  void outputs(const float* weights, const float* inputs, i64 count, i64 width, const float* state, const Steps& steps, float* y) const {
    const Right x{inputs, kFeatures};
    if (state != nullptr) {
      multiply_part<kStates, Part::kAll, Sum::kSet>({c}, count, states, {state, width}, width, {y, kFeatures});
      multiply_part<kSquare, Part::kLower, Sum::kScale>({weights}, count, count, x, width, {y, kFeatures, steps.from_start, 1});
    } else {
      multiply_part<kSquare, Part::kLower, Sum::kSet>({weights}, count, count, x, width, {y, kFeatures});
    }
  }

  void add(const float* inputs, i64 count, i64 width, const float* decay, float* state) const {
    const Left across{b, kStates};
    const Right x{inputs, kFeatures};
    if (decay != nullptr) multiply_part<0, Part::kAll, Sum::kScale>(across, states, count, x, width, {state, width, decay, 0});
    else multiply_part<0, Part::kAll, Sum::kSet>(across, states, count, x, width, {state, width});
  }
};

#if ELAPID_LANES == 16
// Factors are rounded, decays and sums are not: decays scale what is rounded after, or the sums.
struct Bf16Products {
  const Bf16Kernels& unit = *bf16_kernels();
  i64 states;
  // C as the left factor, B as the right one of C Bᵀ and, across, as the left one of what is added; W; X or a state as a right factor.
  uint16_t *c, *b_columns, *across, *w, *right;
  float* sums;

  Bf16Products(Carver& carver, i64 chunk, i64 states) : states(states) {
    const auto room = [&](i64 lines, i64 depth) { return reinterpret_cast<uint16_t*>(carver.take(ceil_div(bf16_room(lines, depth), 2))); };
    c = room(chunk, states);
    b_columns = room(chunk, states);
    across = room(states, chunk);
    w = room(chunk, chunk);
    right = room(kMostFeatures, max(states, chunk));
    sums = carver.take(states * kMostFeatures);
  }

  // Weights above the triangle are zero for good: those that count are written run by run.
  void begin(float* weights, i64 chunk) const {
    clear(weights, whole_rows(chunk) * kSquare);
    unit.begin();
  }
  void end() const { unit.end(); }

  void read(const float* from_b, i64 b_pitch, const float* from_c, i64 c_pitch, i64 count, bool outputs, float* products) const {
    unit.pack_left({from_b, b_pitch, false, states, count}, across);
    if (!outputs) return;
    unit.pack_left({from_c, c_pitch, true, count, states}, c);
    unit.pack_right({from_b, b_pitch, true, count, states}, b_columns);
    unit.multiply_tiles({c, b_columns, count, count, states, products, kSquare, false, false, true});
  }

  void outputs(const float* weights, const float* inputs, i64 count, i64 width, const float* state, const Steps& steps, float* y) const {
    if (state != nullptr) {
      unit.pack_right({state, width, false, width, states}, right);
      unit.multiply_tiles({c, right, count, width, states, y, kFeatures, false, false, false});
      scale_rows(y, kFeatures, count, width, steps.from_start);
    }
    unit.pack_left({weights, kSquare, true, count, count}, w);
    unit.pack_right({inputs, kFeatures, false, width, count}, right);
    unit.multiply_tiles({w, right, count, width, count, y, kFeatures, state != nullptr, true, false});
  }

  void add(const float* inputs, i64 count, i64 width, const float* decay, float* state) const {
    unit.pack_right({inputs, kFeatures, false, width, count}, right);
    unit.multiply_tiles({across, right, states, width, count, decay != nullptr ? sums : state, width, false, false, false});
    if (decay == nullptr) return;
    for (i64 i = 0; i < states * width; i += kLanes) store(state + i, load(state + i) * splat(*decay) + load(sums + i));
  }
};
#endif

}  // namespace ELAPID_TARGET
}  // namespace elapid
