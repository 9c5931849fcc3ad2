// The backward pass: runs from the last to the first, and in each the heads of the block, whose gradients by the state stay in scratch. The letters are
// those of README.md.
#pragma once
#include "runs.h"

namespace elapid {
namespace ELAPID_TARGET {

struct SsdBackwardScratch {
  Steps steps;
  // Of the run: B and C; B as columns; C Bᵀ; L ⊙ M summed over heads; sums for dB and dC.
  float *b, *c, *b_columns, *products, *squares, *db, *dc;
  // Of a head: L ⊙ C Bᵀ; M, then L ⊙ C Bᵀ ⊙ M; the rows Δx, dY, U, and s or others; dY S_in; a matrix's columns; factors.
  float *sums, *weights, *pairs, *inputs, *slopes, *u, *rows, *t, *right, *state, *v, *r, *da, *states;

  SsdBackwardScratch(Carver carver, i64 chunk, i64 n, i64 width) : steps(carver) {
    const i64 count = whole_rows(chunk), wide = whole_vectors(n);
    b = carver.take(count * kStates);
    c = carver.take(count * kStates);
    b_columns = carver.take(transposed_step(chunk) * n);
    float** const squares_of_run[] = {&products, &squares, &weights, &pairs};
    for (float** square : squares_of_run) *square = carver.take(count * kSquare);
    float** const rows_of_states[] = {&db, &dc, &t};
    for (float** some : rows_of_states) *some = carver.take(count * wide);
    float** const rows_of_features[] = {&inputs, &slopes, &u, &rows};
    for (float** some : rows_of_features) *some = carver.take(count * kFeatures);
    right = carver.take(width * max(transposed_step(chunk), transposed_step(n)));
    state = carver.take(n * width);
    float** const numbers[] = {&sums, &v, &r, &da};
    for (float** some : numbers) *some = carver.take(kSquare);
    states = carver.next;
  }
};

struct BackwardRun {
  i64 begin, row, count;
  // The state before the run, or its gradient after the run, may be other than zero.
  bool has_state, has_gradient;

  // The run that ends there.
  static BackwardRun to(const SsdBackward& a, i64 batch, i64 end) {
    const i64 first = batch * a.length, chunk_begin = (end - 1) / a.chunk * a.chunk;
    BackwardRun run;
    run.begin = end - 1;
    while (run.begin > chunk_begin && !is_start(a, first + run.begin)) run.begin--;
    run.row = first + run.begin;
    run.count = end - run.begin;
    run.has_state = !is_start(a, run.row);
    run.has_gradient = end == a.length ? a.dFinalState != nullptr : !is_start(a, first + end);
    return run;
  }

  // The first one of a chunk.
  static BackwardRun first_of(const SsdBackward& a, i64 batch, i64 chunk) {
    const i64 begin = chunk * a.chunk, most = min((chunk + 1) * a.chunk, a.length);
    i64 end = begin + 1;
    while (end < most && !is_start(a, batch * a.length + end)) end++;
    return to(a, batch, end);
  }
};

// dY = dy·silu(z) for the rows of a run, or zeros.
inline void read_slopes(const SsdBackward& a, const Block& block, const BackwardRun& run, i64 column, float* to) {
  if (a.dy == nullptr) return clear(to, run.count * kFeatures);
  copy_rows(a.dy + run.row * a.dyPitch + column, a.dyPitch, run.count, block.features, nullptr, to, kFeatures);
  if (a.z == nullptr) return;
  for (i64 t = 0; t < run.count; t++) {
    const float* const z = a.z + (run.row + t) * a.zPitch + column;
    float* const row = to + t * kFeatures;
    each_vector_of(block.features, [&](i64 i, i64 n) {
      const vf gate = load_first(z + i, n);
      store(row + i, load(row + i) * gate * fast_sigmoid(gate));
    });
  }
}

// dz = dy·s·silu′(z), with s worked out again.
inline void gate_gradient(const SsdBackward& a, const Block& block, i64 h, const BackwardRun& run, const float* state, const SsdBackwardScratch& to) {
  const i64 width = block.width, column = block.column(a, h);
  const Left weights{to.weights};
  const Right inputs{to.inputs, kFeatures};
  if (run.has_state) {
    multiply_part<kStates, Part::kAll, Sum::kSet>({to.c}, run.count, a.stateSize, {state, width}, width, {to.rows, kFeatures});
    multiply_part<kSquare, Part::kLower, Sum::kScale>(weights, run.count, run.count, inputs, width, {to.rows, kFeatures, to.steps.from_start, 1});
  } else {
    multiply_part<kSquare, Part::kLower, Sum::kSet>(weights, run.count, run.count, inputs, width, {to.rows, kFeatures});
  }
  add_skip(a, block, h, run.row, run.count, to.rows);
  for (i64 t = 0; t < run.count; t++) {
    const float *const z = a.z + (run.row + t) * a.zPitch + column, *const dy = a.dy == nullptr ? nullptr : a.dy + (run.row + t) * a.dyPitch + column;
    float* const dz = a.dz + (run.row + t) * a.heads * a.headSize + column;
    each_vector_of(block.features, [&](i64 i, i64 n) {
      const vf gate = load_first(z + i, n), sigmoid = fast_sigmoid(gate), d = dy == nullptr ? vf{} : load_first(dy + i, n);
      store_first(dz + i, d * load(to.rows + t * kFeatures + i) * sigmoid * (1.0f + gate * (1.0f - sigmoid)), n);
    });
  }
}

// Σ_{s<k≤t} of pairs[t][s], for every k: sums over t ≥ k are kept for each s, and those of s < k are added.
inline void pair_sums(const float* pairs, i64 count, float* columns, float* to) {
  const vi lanes = lane_numbers();
  for (i64 s = 0; s < count; s += kLanes) store(columns + s, vf{});
  for (i64 t = count - 1; t >= 0; t--) {
    vf total{};
    for (i64 s = 0; s <= t; s += kLanes) {
      const vf sum = load(columns + s) + load(pairs + t * kSquare + s);
      store(columns + s, sum);
      total += lanes < splat(i32(t - s)) ? sum : vf{};
    }
    to[t] = sum(total);
  }
}

// What a head adds to dC for the state before the run, and v_t = w_t dY_t·(S_in C_t).
inline void read_gradient(const SsdBackward& a, const Block& block, const BackwardRun& run, const float* kept, i64 pitch, const SsdBackwardScratch& to) {
  const i64 states = a.stateSize, wide = whole_vectors(states);
  const Right columns = transposed(kept, pitch, states, block.features, to.right);
  multiply_part<kFeatures, Part::kAll, Sum::kSet>({to.slopes}, run.count, block.features, columns, states, {to.t, wide});
  for (i64 t = 0; t < run.count; t++) {
    const float* const c = to.c + t * kStates;
    const vf decay = splat(to.steps.from_start[t]);
    vf total{};
    for (i64 n = 0; n < states; n += kLanes) {
      const vf term = load(to.t + t * wide + n) * decay;
      total += term * load(c + n);
      store(to.dc + t * wide + n, load(to.dc + t * wide + n) + term);
    }
    to.v[t] = sum(total);
  }
}

// What the gradients of a head in one run begin with.
inline void read_head(const SsdBackward& a, const Block& block, i64 h, const BackwardRun& run, const SsdBackwardScratch& to) {
  const i64 column = block.column(a, h);
  read_steps(a, run.row, run.count, block.head + h, to.steps);
  read_slopes(a, block, run, column, to.slopes);
  if (a.dy != nullptr) ask_for_next<0>(a.dy + run.row * a.dyPitch + column, a.dyPitch, run.count, block.features);
}

// dS_in of a run that has a state before it: R becomes w_Q R + dYᵀ (w ⊙ C), or with has_gradient = false the latter.
inline void state_gradient(const SsdBackward& a, const Block& block, i64 count, bool has_gradient, float* gradient, const SsdBackwardScratch& to) {
  const i64 states = a.stateSize, width = block.width;
  copy_rows(to.slopes, kFeatures, count, width, to.steps.from_start, to.rows, kFeatures);
  const Left across{to.c, kStates};
  const Right decayed{to.rows, kFeatures};
  if (has_gradient) multiply_part<0, Part::kAll, Sum::kScale>(across, states, count, decayed, width, {gradient, width, to.steps.whole, 0});
  else multiply_part<0, Part::kAll, Sum::kSet>(across, states, count, decayed, width, {gradient, width});
}

// One head in one run, once it is read, but for dS_in. `gradient` is R, [states][width]. `parts` get sums for A, the bias, and D of each feature.
inline void ssd_head_backward(const SsdBackward& a, const Block& block, i64 h, const BackwardRun& run, const float* kept, const float* gradient,
                              float* parts, const SsdBackwardScratch& to) {
  const i64 states = a.stateSize, width = block.width, count = run.count, column = block.column(a, h);
  const Steps& steps = to.steps;
  const float* const x = a.x + run.row * a.xPitch + column;
  copy_rows(x, a.xPitch, count, block.features, steps.delta, to.inputs, kFeatures);
  ask_for_next<0>(x, a.xPitch, count, block.features);
  if (a.dx != nullptr) ask_for_next<1>(a.dx + run.row * a.heads * a.headSize + column, a.heads * a.headSize, count, block.features);

  // M, then everything that has its shape.
  const Right input_columns = transposed(to.inputs, kFeatures, count, block.features, to.right);
  multiply_part<kFeatures, Part::kLowerResult, Sum::kSet>({to.slopes}, count, block.features, input_columns, count, {to.pairs, kSquare});
  each_decay(steps.exponent, count, to.sums, [&](i64 t, i64 s, vf decay) {
    const i64 at = t * kSquare + s;
    const vi none = decay == vf{};
    const vf weight = none ? vf{} : decay * load(to.products + at), dots = none ? vf{} : load(to.pairs + at);
    store(to.weights + at, weight);
    store(to.squares + at, load(to.squares + at) + decay * dots);
    store(to.pairs + at, weight * dots);
  });
  pair_sums(to.pairs, count, to.sums, to.da);

  if (a.dz != nullptr) {
    if (run.has_state) copy_rows(kept, a.headSize, states, block.features, nullptr, to.state, width);
    gate_gradient(a, block, h, run, to.state, to);
  }
  if (run.has_state) read_gradient(a, block, run, kept, a.headSize, to);

  // U, r_s = e_s X̃_s·(R B_s), and what the head adds to dB for the state after the run.
  float whole = 0.0f;
  if (run.has_gradient) {
    multiply_part<kStates, Part::kAll, Sum::kSet>({to.b}, count, states, {gradient, width}, width, {to.u, kFeatures});
    scale_rows(to.u, kFeatures, count, width, steps.to_end);
    for (i64 s = 0; s < count; s++) {
      vf total{};
      for (i64 i = 0; i < width; i += kLanes) total += load(to.u + s * kFeatures + i) * load(to.inputs + s * kFeatures + i);
      to.r[s] = sum(total);
    }
    if (a.dB != nullptr) {
      copy_rows(to.inputs, kFeatures, count, width, steps.to_end, to.rows, kFeatures);
      const Right columns = transposed(gradient, width, states, block.features, to.right);
      multiply_part<kFeatures, Part::kAll, Sum::kAdd>({to.rows}, count, block.features, columns, states, {to.db, whole_vectors(states)});
    }
    if (run.has_state) {
      vf total{};
      for (i64 n = 0; n < states; n++) {
        const float* const g = gradient + n * width;
        each_vector_of(block.features, [&](i64 i, i64 k) { total += load(g + i) * load_first(kept + n * a.headSize + i, k); });
      }
      whole = sum(total) * steps.from_start[count - 1];
    }
  }
  const Left weights_across{to.weights, kSquare};
  const Right slopes{to.slopes, kFeatures};
  if (run.has_gradient) multiply_part<0, Part::kUpper, Sum::kAdd>(weights_across, count, count, slopes, width, {to.u, kFeatures});
  else multiply_part<0, Part::kUpper, Sum::kSet>(weights_across, count, count, slopes, width, {to.u, kFeatures});

  // da: what comes after a position through the state before the run, and what came before it through the state after the run.
  if (run.has_state) {
    float sum = 0.0f;
    for (i64 t = count - 1; t >= 0; t--) to.da[t] += sum += to.v[t];
  }
  if (run.has_gradient) {
    float sum = whole;
    for (i64 t = 0; t < count; t++) {
      to.da[t] += sum;
      sum += to.r[t];
    }
  }
  const float rate = a.A[block.head + h];
  float by_rate = 0.0f, by_bias = 0.0f;
  for (i64 t = 0; t < count; t++) {
    const float *const x_row = x + t * a.xPitch, *const u = to.u + t * kFeatures, *const slope = to.slopes + t * kFeatures;
    float* const dx = a.dx != nullptr ? a.dx + (run.row + t) * a.heads * a.headSize + column : nullptr;
    const vf delta = splat(steps.delta[t]), head_skip = splat(a.D != nullptr && !a.skipByFeature ? a.D[block.head + h] : 0.0f);
    vf total{};
    each_vector_of(block.features, [&](i64 i, i64 n) {
      const vf input = load_first(x_row + i, n), ui = load(u + i), d = load(slope + i);
      total += input * ui;
      if (dx != nullptr) {
        const vf skip = a.D != nullptr && a.skipByFeature ? load_first(a.D + column + i, n) : head_skip;
        store_first(dx + i, delta * ui + skip * d, n);
      }
      if (a.dD != nullptr) store_first(parts + 2 + block.feature + i, load_first(parts + 2 + block.feature + i, n) + input * d, n);
    });
    by_rate += steps.delta[t] * to.da[t];
    const float by_delta = (rate * to.da[t] + sum(total)) * steps.slope[t];
    by_bias += by_delta;
    if (a.dDelta != nullptr) {
      float& place = a.dDelta[(run.row + t) * a.heads + block.head + h];
      place = block.feature == 0 ? by_delta : place + by_delta;
    }
  }
  parts[0] += by_rate;
  parts[1] += by_bias;
}

// Where the block's dB (which = 0) or dC (1) goes at a row.
ELAPID_INLINE float* sequence_gradient(const SsdBackward& a, const Block& block, i64 row, i64 which) {
  const i64 columns = a.groups * a.stateSize, rows = a.batch * a.length;
  float* const whole = a.sequenceParts != nullptr ? a.sequenceParts + (block.index * 2 + which) * rows * columns : which == 0 ? a.dB : a.dC;
  return whole + row * columns + block.group * a.stateSize;
}

// dC = (L ⊙ M) B + … and dB = (L ⊙ M)ᵀ C + …, whose squares are summed over the heads.
inline void finish_run(const SsdBackward& a, const Block& block, const BackwardRun& run, const SsdBackwardScratch& to) {
  const i64 states = a.stateSize, wide = whole_vectors(states), count = run.count;
  for (i64 which = 0; which < 2; which++) {
    if ((which == 0 ? a.dB : a.dC) == nullptr) continue;
    float* const sums = which == 0 ? to.db : to.dc;
    if (which == 0) multiply_part<0, Part::kUpper, Sum::kAdd>({to.squares, kSquare}, count, count, {to.c, kStates}, states, {sums, wide});
    else multiply_part<kSquare, Part::kLower, Sum::kAdd>({to.squares}, count, count, {to.b, kStates}, states, {sums, wide});
    for (i64 t = 0; t < count; t++) {
      float* const row = sequence_gradient(a, block, run.row + t, which);
      each_vector_of(states, [&](i64 n, i64 left) {
        const vf sum = load(sums + t * wide + n);
        store_first(row + n, block.feature == 0 ? sum : load_first(row + n, left) + sum, left);
      });
    }
  }
}

// C and B of a run, and C Bᵀ; sums for its heads are zero.
inline void read_run(const SsdBackward& a, const Block& block, const BackwardRun& run, const SsdBackwardScratch& to) {
  const i64 states = a.stateSize, wide = whole_vectors(states);
  copy_rows(a.B + run.row * a.bPitch + block.group * states, a.bPitch, run.count, states, nullptr, to.b, kStates);
  copy_rows(a.C + run.row * a.cPitch + block.group * states, a.cPitch, run.count, states, nullptr, to.c, kStates);
  const Right columns = transposed(to.b, kStates, run.count, states, to.b_columns);
  multiply_part<kStates, Part::kLowerResult, Sum::kSet>({to.c}, run.count, states, columns, run.count, {to.products, kSquare});
  clear(to.squares, run.count * kSquare);
  clear(to.db, run.count * wide);
  clear(to.dc, run.count * wide);
}

// A run's gradients, once its head is read.
inline void head_of_run(const SsdBackward& a, const Block& block, i64 h, const BackwardRun& run, const float* gradient, const SsdBackwardScratch& to) {
  const i64 at = (block.batch * ceil_div(a.length, a.chunk) + run.begin / a.chunk) * a.heads + block.head + h;
  ssd_head_backward(a, block, h, run, a.states + at * a.stateSize * a.headSize + block.feature, gradient, a.headParts + at * (a.headSize + 2), to);
}

// All of a block's positions in one task.
inline void ssd_block_backward(const SsdBackward& a, const Block& block, const SsdBackwardScratch& to) {
  const i64 states = a.stateSize, size = whole_rows(states) * block.width;
  const auto place = [&](i64 h) { return ((block.batch * a.heads + block.head + h) * a.headSize + block.feature) * states; };
  for (i64 h = 0; h < block.heads; h++)
    state_in(a.dFinalState != nullptr ? a.dFinalState + place(h) : nullptr, block.features, states, block.width, to.states + h * size);
  for (i64 end = a.length; end > 0;) {
    const BackwardRun run = BackwardRun::to(a, block.batch, end);
    read_run(a, block, run, to);
    for (i64 h = 0; h < block.heads; h++) {
      float* const gradient = to.states + h * size;
      read_head(a, block, h, run, to);
      head_of_run(a, block, h, run, gradient, to);
      if (run.has_state) state_gradient(a, block, run.count, run.has_gradient, gradient, to);
      else clear(gradient, states * block.width);
    }
    finish_run(a, block, run, to);
    end = run.begin;
  }
  if (a.dInitialState == nullptr) return;
  for (i64 h = 0; h < block.heads; h++) state_out(to.states + h * size, block.features, states, block.width, a.dInitialState + place(h));
}

// Adds up, in order, what blocks, chunks and sequences have.
inline void add_parts(const SsdBackward& a, Pool& pool) {
  const i64 columns = a.headSize + 2, chunks = a.batch * ceil_div(a.length, a.chunk);
  for (i64 h = 0; h < a.heads; h++) {
    float by_rate = 0.0f, by_bias = 0.0f;
    for (i64 chunk = 0; chunk < chunks; chunk++) {
      by_rate += a.headParts[(chunk * a.heads + h) * columns];
      by_bias += a.headParts[(chunk * a.heads + h) * columns + 1];
    }
    if (a.dA != nullptr) a.dA[h] = by_rate;
    if (a.dDeltaBias != nullptr) a.dDeltaBias[h] = by_bias;
    if (a.dD == nullptr) continue;
    float of_head = 0.0f;
    for (i64 p = 0; p < a.headSize; p++) {
      float sum = 0.0f;
      for (i64 chunk = 0; chunk < chunks; chunk++) sum += a.headParts[(chunk * a.heads + h) * columns + 2 + p];
      if (a.skipByFeature) a.dD[h * a.headSize + p] = sum;
      of_head += sum;
    }
    if (!a.skipByFeature) a.dD[h] = of_head;
  }
  if (a.sequenceParts == nullptr) return;
  const i64 count = a.batch * a.length * a.groups * a.stateSize, blocks = ceil_div(a.heads / a.groups, a.blockHeads);
  for (i64 which = 0; which < 2; which++) {
    float* const to = which == 0 ? a.dB : a.dC;
    if (to == nullptr) continue;
    each_block(pool, count, kElementwiseGrain, [&](i64 begin, i64 end) {
      each_vector_of(end - begin, [&](i64 i, i64 n) {
        vf sum{};
        for (i64 block = 0; block < blocks; block++) sum += load_first(a.sequenceParts + (block * 2 + which) * count + begin + i, n);
        store_first(to + begin + i, sum, n);
      });
    });
  }
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
