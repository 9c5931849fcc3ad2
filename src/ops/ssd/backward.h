// The backward pass: runs from the last to the first, and in each the heads of the block, whose gradients by the state stay in scratch. The letters are
// those of README.md.
#pragma once
#include "runs.h"

namespace elapid {
namespace ELAPID_TARGET {

struct SsdBackwardScratch {
  Steps steps;
  // Of the run: C and B as left factors (rows, columns), B as a right one; C Bᵀ; L ⊙ M summed over heads; sums for dC and dB.
  float *c_rows, *b_rows, *c_across, *b_columns, *products, *squares, *dc, *db;
  // Of a head: L ⊙ C Bᵀ; M, then L ⊙ C Bᵀ ⊙ M; the rows Δx, dY, w ⊙ dY, U, s; dY S_in; factors.
  float *sums, *weights, *pairs, *inputs, *slopes, *decayed, *u, *y, *t, *left, *right, *state, *v, *r, *da, *states;

  SsdBackwardScratch(Carver carver, i64 chunk, i64 states_of_head, i64 width) : steps(carver) {
    const i64 square = chunk * whole_vectors(chunk), n = states_of_head, wide = whole_columns(whole_vectors(n));
    c_rows = carver.take(whole_rows(chunk) * n);
    b_rows = carver.take(whole_rows(chunk) * n);
    c_across = carver.take(whole_rows(n) * chunk);
    b_columns = carver.take(whole_columns(chunk) * n);
    products = carver.take(square);
    squares = carver.take(square);
    dc = carver.take(chunk * wide);
    db = carver.take(chunk * wide);
    sums = carver.take(kMostRun + 16);
    weights = carver.take(square);
    pairs = carver.take(square);
    float** const rows_of_run[] = {&inputs, &slopes, &decayed, &u, &y};
    for (float** rows : rows_of_run) *rows = carver.take(chunk * width);
    t = carver.take(chunk * wide);
    left = carver.take(whole_rows(chunk) * max(chunk, width));
    right = carver.take(max(whole_columns(chunk) * width, wide * max(width, chunk)));
    state = carver.take(n * width);
    float** const numbers_of_run[] = {&v, &r, &da};
    for (float** numbers : numbers_of_run) *numbers = carver.take(kMostRun + 16);
    states = carver.next;
  }
};

struct SsdRun {
  i64 begin, row, count, square;
  // The state before the run, or its gradient after the run, may be other than zero.
  bool has_state, has_gradient;
};

// dY = dy·silu(z) for the rows of a run, or zeros.
inline void read_slopes(const SsdBackward& a, const Block& block, const SsdRun& run, i64 column, float* to) {
  if (a.dy == nullptr) return clear(to, run.count * block.width);
  copy_rows(a.dy + run.row * a.dyPitch + column, a.dyPitch, run.count, block.features, block.width, nullptr, to);
  if (a.z == nullptr) return;
  for (i64 t = 0; t < run.count; t++) {
    const float* const z = a.z + (run.row + t) * a.zPitch + column;
    float* const row = to + t * block.width;
    each_vector_of(block.features, [&](i64 i, i64 n) {
      const vf gate = load_first(z + i, n);
      store(row + i, load(row + i) * gate * fast_sigmoid(gate));
    });
  }
}

// dz = dy·s·silu′(z), with s worked out again.
inline void gate_gradient(const SsdBackward& a, const Block& block, i64 h, const SsdRun& run, const float* state, const SsdBackwardScratch& to) {
  const i64 width = block.width, column = block.column(a, h);
  if (run.has_state) {
    multiply_part<Part::kAll>(to.c_rows, run.count, a.stateSize, Columns::rows(state, width), width, to.y, width, false);
    scale_rows(to.y, run.count, width, to.steps.from_start);
  }
  rows_as_lines(to.weights, run.square, run.count, run.count, to.left);
  multiply_part<Part::kLower>(to.left, run.count, run.count, Columns::rows(to.inputs, width), width, to.y, width, run.has_state);
  add_skip(a, block, h, run.row, run.count, to.y);
  for (i64 t = 0; t < run.count; t++) {
    const float *const z = a.z + (run.row + t) * a.zPitch + column, *const dy = a.dy == nullptr ? nullptr : a.dy + (run.row + t) * a.dyPitch + column;
    float* const dz = a.dz + (run.row + t) * a.heads * a.headSize + column;
    each_vector_of(block.features, [&](i64 i, i64 n) {
      const vf gate = load_first(z + i, n), sigmoid = fast_sigmoid(gate), d = dy == nullptr ? vf{} : load_first(dy + i, n);
      store_first(dz + i, d * load(to.y + t * width + i) * sigmoid * (1.0f + gate * (1.0f - sigmoid)), n);
    });
  }
}

// Σ_{s<k≤t} of pairs[t][s], for every k: sums over t ≥ k are kept for each s, and those of s < k are added.
inline void pair_sums(const float* pairs, i64 square, i64 count, float* columns, float* to) {
  const vi lanes = lane_numbers();
  for (i64 s = 0; s < square; s += kLanes) store(columns + s, vf{});
  for (i64 t = count - 1; t >= 0; t--) {
    vf total{};
    for (i64 s = 0; s <= t; s += kLanes) {
      const vf sum = load(columns + s) + load(pairs + t * square + s);
      store(columns + s, sum);
      total += lanes < splat(i32(t - s)) ? sum : vf{};
    }
    to[t] = sum(total);
  }
}

// What a head adds to dC for the state before the run, and v_t = w_t dY_t·(S_in C_t).
inline void read_gradient(const SsdBackward& a, const Block& block, const SsdRun& run, const float* kept, i64 pitch, const SsdBackwardScratch& to) {
  const i64 states = a.stateSize, wide = whole_vectors(states);
  rows_as_lines(to.slopes, block.width, run.count, block.features, to.left);
  const Columns columns = rows_as_columns(kept, pitch, states, block.features, to.right);
  multiply_part<Part::kAll>(to.left, run.count, block.features, columns, min(wide, whole_columns(states)), to.t, wide, false);
  for (i64 t = 0; t < run.count; t++) {
    const float* const c = a.C + (run.row + t) * a.cPitch + block.group * states;
    const vf decay = splat(to.steps.from_start[t]);
    vf total{};
    each_vector_of(states, [&](i64 n, i64 left) {
      const vf term = load(to.t + t * wide + n) * decay;
      total += term * load_first(c + n, left);
      store(to.dc + t * wide + n, load(to.dc + t * wide + n) + term);
    });
    to.v[t] = sum(total);
  }
}

// One head in one run. `gradient` is R, [states][width], and becomes dS_in. `parts` get sums for A, the bias, and D of each feature.
inline void ssd_head_backward(const SsdBackward& a, const Block& block, i64 h, const SsdRun& run, const float* kept, float* parts,
                              const SsdBackwardScratch& to) {
  const i64 states = a.stateSize, width = block.width, square = run.square, count = run.count, column = block.column(a, h);
  const i64 wide = whole_vectors(states);
  const Steps& steps = to.steps;
  float* const gradient = to.states + h * states * width;
  read_steps(a, run.row, count, block.head + h, steps);
  const float* const x = a.x + run.row * a.xPitch + column;
  copy_rows(x, a.xPitch, count, block.features, width, steps.delta, to.inputs);
  read_slopes(a, block, run, column, to.slopes);

  // M, then everything that has its shape.
  rows_as_lines(to.slopes, width, count, block.features, to.left);
  const Columns input_columns = rows_as_columns(to.inputs, width, count, block.features, to.right);
  multiply_part<Part::kLowerResult>(to.left, count, block.features, input_columns, min(square, whole_columns(count)), to.pairs, square, false);
  each_decay(steps.exponent, count, to.sums, [&](i64 t, i64 s, vf decay) {
    const i64 at = t * square + s;
    const vi none = decay == vf{};
    const vf weight = none ? vf{} : decay * load(to.products + at), dots = none ? vf{} : load(to.pairs + at);
    store(to.weights + at, weight);
    store(to.squares + at, load(to.squares + at) + decay * dots);
    store(to.pairs + at, weight * dots);
  });
  pair_sums(to.pairs, square, count, to.sums, to.da);

  if (a.dz != nullptr) {
    if (run.has_state) copy_rows(kept, a.headSize, states, block.features, width, nullptr, to.state);
    gate_gradient(a, block, h, run, to.state, to);
  }
  if (run.has_state) read_gradient(a, block, run, kept, a.headSize, to);

  // U, r_s = e_s X̃_s·(R B_s), and what the head adds to dB for the state after the run.
  float whole = 0.0f;
  if (run.has_gradient) {
    multiply_part<Part::kAll>(to.b_rows, count, states, Columns::rows(gradient, width), width, to.u, width, false);
    scale_rows(to.u, count, width, steps.to_end);
    for (i64 s = 0; s < count; s++) {
      vf total{};
      for (i64 i = 0; i < width; i += kLanes) total += load(to.u + s * width + i) * load(to.inputs + s * width + i);
      to.r[s] = sum(total);
    }
    if (a.dB != nullptr) {
      copy_rows(to.inputs, width, count, width, width, steps.to_end, to.y);
      rows_as_lines(to.y, width, count, block.features, to.left);
      const Columns columns = rows_as_columns(gradient, width, states, block.features, to.right);
      multiply_part<Part::kAll>(to.left, count, block.features, columns, min(wide, whole_columns(states)), to.db, wide, true);
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
  columns_as_lines(to.weights, square, count, count, to.left);
  multiply_part<Part::kUpper>(to.left, count, count, Columns::rows(to.slopes, width), width, to.u, width, run.has_gradient);

  // dS_in
  if (run.has_state) {
    copy_rows(to.slopes, width, count, width, width, steps.from_start, to.decayed);
    if (run.has_gradient) scale_all(gradient, states * width, steps.from_start[count - 1]);
    multiply_part<Part::kAll>(to.c_across, states, count, Columns::rows(to.decayed, width), width, gradient, width, run.has_gradient);
  } else {
    clear(gradient, states * width);
  }

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
    const float *const x_row = x + t * a.xPitch, *const u = to.u + t * width, *const slope = to.slopes + t * width;
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
inline void finish_run(const SsdBackward& a, const Block& block, const SsdRun& run, const SsdBackwardScratch& to) {
  const i64 states = a.stateSize, wide = whole_vectors(states), columns = min(wide, whole_columns(states)), count = run.count;
  for (i64 which = 0; which < 2; which++) {
    if ((which == 0 ? a.dB : a.dC) == nullptr) continue;
    float* const sums = which == 0 ? to.db : to.dc;
    if (which == 0) {
      columns_as_lines(to.squares, run.square, count, count, to.left);
      const Columns c = columns_as_columns(a.C + run.row * a.cPitch + block.group * states, a.cPitch, count, states, to.right);
      multiply_part<Part::kUpper>(to.left, count, count, c, columns, sums, wide, true);
    } else {
      rows_as_lines(to.squares, run.square, count, count, to.left);
      const Columns b = columns_as_columns(a.B + run.row * a.bPitch + block.group * states, a.bPitch, count, states, to.right);
      multiply_part<Part::kLower>(to.left, count, count, b, columns, sums, wide, true);
    }
    for (i64 t = 0; t < count; t++) {
      float* const row = sequence_gradient(a, block, run.row + t, which);
      each_vector_of(states, [&](i64 n, i64 left) {
        const vf sum = load(sums + t * wide + n);
        store_first(row + n, block.feature == 0 ? sum : load_first(row + n, left) + sum, left);
      });
    }
  }
}

inline void ssd_block_backward(const SsdBackward& a, const Block& block, const SsdBackwardScratch& to) {
  const i64 states = a.stateSize, chunks = ceil_div(a.length, a.chunk), size = states * block.width, wide = whole_vectors(states);
  const i64 first_head = block.batch * a.heads + block.head;
  const auto place = [&](i64 h) { return ((first_head + h) * a.headSize + block.feature) * states; };
  for (i64 h = 0; h < block.heads; h++)
    state_in(a.dFinalState != nullptr ? a.dFinalState + place(h) : nullptr, block.features, states, block.width, to.states + h * size);
  SsdRun run{};
  run.has_gradient = a.dFinalState != nullptr;
  const i64 first_row = block.batch * a.length;
  for (i64 end = a.length; end > 0; end = run.begin) {
    const i64 chunk = (end - 1) / a.chunk;
    run.begin = end - 1;
    while (run.begin > chunk * a.chunk && !is_start(a, first_row + run.begin)) run.begin--;
    run.row = first_row + run.begin;
    run.count = end - run.begin;
    run.square = whole_vectors(run.count);
    run.has_state = !is_start(a, run.row);
    const float *const b = a.B + run.row * a.bPitch + block.group * states, *const c = a.C + run.row * a.cPitch + block.group * states;
    rows_as_lines(c, a.cPitch, run.count, states, to.c_rows);
    rows_as_lines(b, a.bPitch, run.count, states, to.b_rows);
    columns_as_lines(c, a.cPitch, run.count, states, to.c_across);
    const Columns columns = rows_as_columns(b, a.bPitch, run.count, states, to.b_columns);
    multiply_part<Part::kLowerResult>(to.c_rows, run.count, states, columns, min(run.square, whole_columns(run.count)), to.products, run.square, false);
    clear(to.squares, run.count * run.square);
    clear(to.db, run.count * wide);
    clear(to.dc, run.count * wide);
    for (i64 h = 0; h < block.heads; h++) {
      const float* const kept = a.states + ((block.batch * chunks + chunk) * a.heads + block.head + h) * states * a.headSize + block.feature;
      ssd_head_backward(a, block, h, run, kept, a.headParts + (first_head + h) * (a.headSize + 2), to);
    }
    finish_run(a, block, run, to);
    run.has_gradient = run.has_state;
  }
  if (a.dInitialState == nullptr) return;
  for (i64 h = 0; h < block.heads; h++) state_out(to.states + h * size, block.features, states, block.width, a.dInitialState + place(h));
}

// Adds up, in order, what blocks and sequences have.
inline void add_parts(const SsdBackward& a, Pool& pool) {
  const i64 columns = a.headSize + 2;
  for (i64 h = 0; h < a.heads; h++) {
    float by_rate = 0.0f, by_bias = 0.0f;
    for (i64 b = 0; b < a.batch; b++) {
      by_rate += a.headParts[(b * a.heads + h) * columns];
      by_bias += a.headParts[(b * a.heads + h) * columns + 1];
    }
    if (a.dA != nullptr) a.dA[h] = by_rate;
    if (a.dDeltaBias != nullptr) a.dDeltaBias[h] = by_bias;
    if (a.dD == nullptr) continue;
    float of_head = 0.0f;
    for (i64 p = 0; p < a.headSize; p++) {
      float sum = 0.0f;
      for (i64 b = 0; b < a.batch; b++) sum += a.headParts[(b * a.heads + h) * columns + 2 + p];
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
