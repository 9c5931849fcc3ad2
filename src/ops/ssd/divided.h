// Both passes divided along the sequence as well, for more threads than there are blocks of heads: first what every chunk adds to the states (or their
// gradients), then the states at the ends of all chunks, then the rest of every chunk. The sums are those of undivided blocks, in the same order.
#pragma once
#include "backward.h"
#include "forward.h"

namespace elapid {
namespace ELAPID_TARGET {

// Out of line, so that what stands around it cannot keep the compiler from fusing product and sum, as it does in the tiles.
ELAPID_NOINLINE inline vf decayed_sum(vf x, vf decay, vf added) { return x * decay + added; }

// Where the states between chunks lie, [states][headSize] for each head: `kept`, where the gradient wants those before chunks, or in the memory that
// threads share, for some chunks at a time. What is after a round's last chunk is always there.
struct ChunkStates {
  float *kept, *shared, *decays;
  i64 chunks, of_head, size, batch, heads, in_round;

  template <class Args>
  ChunkStates(const Args& a, float* kept, float* shared) : kept(kept), shared(shared), batch(a.batch), heads(a.heads) {
    constexpr i64 room = i64(kSharedScratchBytes / sizeof(float));
    chunks = ceil_div(a.length, a.chunk);
    of_head = a.stateSize * a.headSize;
    size = heads * of_head;
    in_round = chunks;
    if (kept == nullptr) in_round = max(i64(0), min(chunks, room / batch / (size + heads) - 1));
    else if (batch * (size + chunks * heads) > room) in_round = 0;
    decays = shared + batch * (kept == nullptr ? in_round + 1 : 1) * size;
  }

  // Before chunk i of a round, and after its last.
  float* at(i64 b, i64 i) const {
    if (kept == nullptr) return shared + (b * (in_round + 1) + i) * size;
    return i < chunks ? kept + (b * chunks + i) * size : shared + b * size;
  }
  float* decay(i64 b, i64 i) const { return decays + (b * in_round + i) * heads; }

  // Calls f(b, head, begin, n) for pieces of the states of all heads, on all threads.
  template <class F>
  void each_piece(Pool& pool, F f) const {
    constexpr i64 piece = 2048;
    const i64 pieces = ceil_div(of_head, piece);
    pool.each(batch * heads * pieces, [&](i64 task, int) {
      const i64 begin = task % pieces * piece;
      f(task / pieces / heads, task / pieces % heads, begin, min(piece, of_head - begin));
    });
  }

  // The states at one end of a chunk, `to`, become those at the other, decayed, and what the chunk adds, which is there.
  void add(i64 b, i64 head, i64 begin, i64 n, i64 from, i64 to, i64 chunk) const {
    const vf by = splat(decay(b, chunk)[head]);
    const float* const x = at(b, from) + head * of_head + begin;
    float* const y = at(b, to) + head * of_head + begin;
    i64 i = 0;
    for (; i + kLanes <= n; i += kLanes) store(y + i, decayed_sum(load(x + i), by, load(y + i)));
    if (i < n) store_first(y + i, decayed_sum(load_first(x + i, n - i), by, load_first(y + i, n - i)), n - i);
  }

  // Copies the caller's states, [headSize][states], to a place, or zeros; and back.
  void read(const float* from, i64 states, i64 i, Pool& pool) const {
    const i64 features = of_head / states;
    pool.each(batch * heads, [&](i64 task, int) {
      float* const to = at(task / heads, i) + task % heads * of_head;
      if (from != nullptr) transpose_into<true>(from + task * of_head, states, features, states, to, features);
      else __builtin_memset(to, 0, size_t(of_head) * sizeof(float));
    });
  }
  void write(i64 states, i64 i, float* to, Pool& pool) const {
    const i64 features = of_head / states;
    pool.each(batch * heads, [&](i64 task, int) {
      transpose_into<true>(at(task / heads, i) + task % heads * of_head, features, states, features, to + task * of_head, states);
    });
  }
  void move(i64 from, i64 to, Pool& pool) const {
    each_piece(pool, [&](i64 b, i64 head, i64 begin, i64 n) {
      __builtin_memcpy(at(b, to) + head * of_head + begin, at(b, from) + head * of_head + begin, size_t(n) * sizeof(float));
    });
  }
};

// Whether it takes less time: both phases and their memory take some 5/4 of the time of one.
template <class Args>
bool is_divided(const Args& a, const ChunkStates& states, i64 threads) {
  const i64 tasks = Block::tasks(a);
  return states.in_round > 1 && 5 * tasks < 4 * threads * ceil_div(tasks, threads);
}

// Calls f(block, chunk of the round, scratch) for all blocks and parts of their features, on all threads.
template <class Args, class Make, class F>
void each_chunk(const Args& a, i64 count, Pool& pool, Make make, F f) {
  pool.each(Block::tasks(a) * count, [&](i64 task, int thread) {
    Block block = Block::of(a, task / count);
    for (i64 feature = 0; feature < a.headSize; feature += kMostFeatures) {
      block.take_features(a, feature);
      f(block, task % count, make(Carver{pool.scratch<float>(thread)}, block));
    }
  });
}

template <class Products>
void ssd_divided(const Ssd& a, const ChunkStates& before, Pool& pool) {
  const i64 states = a.stateSize;
  const auto state_of = [&](const Block& block, i64 h, i64 i) { return before.at(block.batch, i) + (block.head + h) * before.of_head + block.feature; };
  const auto make = [&](Carver scratch, const Block&) { return SsdForwardScratch<Products>(scratch, a.chunk, states); };
  using Scratch = const SsdForwardScratch<Products>&;
  before.read(a.initialState, states, 0, pool);
  for (i64 first = 0; first < before.chunks; first += before.in_round) {
    const i64 count = min(before.in_round, before.chunks - first);
    if (first > 0) before.move(before.in_round, 0, pool);
    each_chunk(a, count, pool, make, [&](const Block& block, i64 i, Scratch to) {
      const SsdRun run = SsdRun::last_of(a, block.batch, first + i);
      read_run(a, block, run, false, to);
      for (i64 h = 0; h < block.heads; h++) {
        read_head(a, block, h, run, to);
        before.decay(block.batch, i)[block.head + h] = to.steps.whole[0];
        add_to_state(block, run.count, false, to.states, to);
        copy_out(to.states, block, states, state_of(block, h, i + 1), a.headSize);
      }
    });
    before.each_piece(pool, [&](i64 b, i64 head, i64 begin, i64 n) {
      for (i64 i = 0; i < count; i++) {
        const SsdRun last = SsdRun::last_of(a, b, first + i);
        if (last.connected && last.begin == (first + i) * a.chunk) before.add(b, head, begin, n, i, i + 1, i);
      }
    });
    each_chunk(a, count, pool, make, [&](const Block& block, i64 i, Scratch to) {
      const i64 end = min((first + i + 1) * a.chunk, a.length);
      for (i64 begin = (first + i) * a.chunk; begin < end;) {
        const SsdRun run = SsdRun::from(a, block.batch, begin);
        read_run(a, block, run, true, to);
        for (i64 h = 0; h < block.heads; h++) {
          read_head(a, block, h, run, to);
          if (run.connected) copy_rows(state_of(block, h, i), a.headSize, states, block.features, nullptr, to.states, block.width);
          write_outputs(a, block, h, run, to.states, to);
        }
        begin = run.end;
      }
    });
    if (first + count == before.chunks) before.write(states, count, a.finalState, pool);
  }
}

inline void ssd_backward_divided(const SsdBackward& a, const ChunkStates& gradients, Pool& pool) {
  const i64 states = a.stateSize;
  const auto gradient_of = [&](const Block& block, i64 h, i64 i) {
    return gradients.at(block.batch, i) + (block.head + h) * gradients.of_head + block.feature;
  };
  const auto make = [&](Carver scratch, const Block& block) { return SsdBackwardScratch(scratch, a.chunk, states, block.width); };
  for (i64 end = gradients.chunks; end > 0;) {
    const i64 count = min(gradients.in_round, end), first = end - count;
    if (end == gradients.chunks) gradients.read(a.dFinalState, states, count, pool);
    else gradients.move(0, count, pool);
    each_chunk(a, count, pool, make, [&](const Block& block, i64 i, const SsdBackwardScratch& to) {
      const BackwardRun run = BackwardRun::first_of(a, block.batch, first + i);
      if (run.has_state) copy_rows(a.C + run.row * a.cPitch + block.group * states, a.cPitch, run.count, states, nullptr, to.c, kStates);
      for (i64 h = 0; h < block.heads; h++) {
        if (run.has_state) {
          read_head(a, block, h, run, to);
          gradients.decay(block.batch, i)[block.head + h] = to.steps.whole[0];
          state_gradient(a, block, run.count, false, to.states, to);
        } else {
          clear(to.states, states * block.width);
        }
        copy_out(to.states, block, states, gradient_of(block, h, i), a.headSize);
      }
    });
    gradients.each_piece(pool, [&](i64 b, i64 head, i64 begin, i64 n) {
      for (i64 i = count - 1; i >= 0; i--) {
        const BackwardRun run = BackwardRun::first_of(a, b, first + i);
        const bool whole = run.begin + run.count == min((first + i + 1) * a.chunk, a.length);
        if (run.has_state && run.has_gradient && whole) gradients.add(b, head, begin, n, i + 1, i, i);
      }
    });
    each_chunk(a, count, pool, make, [&](const Block& block, i64 i, const SsdBackwardScratch& to) {
      const i64 begin = (first + i) * a.chunk;
      for (i64 last = min(begin + a.chunk, a.length); last > begin;) {
        const BackwardRun run = BackwardRun::to(a, block.batch, last);
        read_run(a, block, run, to);
        for (i64 h = 0; h < block.heads; h++) {
          read_head(a, block, h, run, to);
          if (run.has_gradient) copy_rows(gradient_of(block, h, i + 1), a.headSize, states, block.features, nullptr, to.states, block.width);
          head_of_run(a, block, h, run, to.states, to);
        }
        finish_run(a, block, run, to);
        last = run.begin;
      }
    });
    end = first;
  }
  if (a.dInitialState != nullptr) gradients.write(states, 0, a.dInitialState, pool);
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
