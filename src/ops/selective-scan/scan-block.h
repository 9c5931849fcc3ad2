// What the forward and the backward scan share. A task scans a block of channels of one batch row: a few vectors, so that
// it reads and writes memory in runs of up to kMaxChannels floats. Scratch is laid out [step][lane] for a chunk of a vector,
// [vector][state][lane] for states.
namespace elapid {
namespace ELAPID_TARGET {

// Channels of a block at most; with N ≤ 2048 (checked by the op) every scratch array fits.
constexpr i64 kMaxChannels = 64;

// States of a vector of channels held in registers at a time: on the way forward h, on the way back the adjoint and dA.
#if ELAPID_LANES == 16
constexpr int kForwardStates = 16, kBackwardStates = 8;
#else
constexpr int kForwardStates = 8, kBackwardStates = 4;
#endif

// Calls f<K>(n) for blocks of K states from n on that cover 0 … states − 1, the largest K first.
template <int kStates, class F>
ELAPID_INLINE void each_state_block(i64 states, F f, i64 n = 0) {
  for (; n + kStates <= states; n += kStates) f.template operator()<kStates>(n);
  if constexpr (kStates > 4) each_state_block<kStates / 2>(states, f, n);
  else if constexpr (kStates > 1) each_state_block<1>(states, f, n);
}

// The scan order of a sequence and a block of its channels. Args: the arguments of the forward or the backward kernel.
template <class Args>
struct Block {
  const Args& a;
  i64 batch, first, channels;

  i64 vectors() const { return ceil_div(channels, i64(kLanes)); }
  i64 lanes_of(i64 v) const { return channels - v * kLanes; }
  i64 chunks() const { return ceil_div(a.length, a.chunk); }
  i64 chunk_size(i64 c) const { return min(a.chunk, a.length - c * a.chunk); }

  // Row of the [B·L] rows that step i of the scan reads, and how far the next step's is.
  i64 row(i64 i) const { return batch * a.length + (a.reverse ? a.length - 1 - i : i); }
  i64 row_step() const { return a.reverse ? -1 : 1; }

  // A state at the start of chunk c, as the forward scan leaves it for the backward one: [B, chunks, N, E].
  i64 checkpoint(i64 c, i64 n, i64 v) const {
    return ((batch * chunks() + c) * a.stateSize + n) * a.channels + first + v * kLanes;
  }

  // Whether the state before step i is dropped: a document starts at its position or, backwards, ended there.
  bool is_reset(i64 i) const {
    return a.reverse ? i > 0 && a.sequenceStarts[row(i - 1)] != 0 : a.sequenceStarts[row(i)] != 0;
  }

  bool has_reset(i64 from, i64 to) const {
    if (!a.sequenceStarts) return false;
    for (i64 i = from; i < to; i++)
      if (is_reset(i)) return true;
    return false;
  }

  // Marks the resets of steps [from, from + count); null when there is none.
  const i32* resets(i64 from, i64 count, i32* marks) const {
    if (!has_reset(from, from + count)) return nullptr;
    for (i64 k = 0; k < count; k++) marks[k] = is_reset(from + k);
    return marks;
  }

  // A·log₂e and 1/A, transposed.
  void load_a(float* a2, float* inverse_a) const {
    transpose(a.A + first * a.stateSize, a2);
    for (i64 i = 0; i < vectors() * a.stateSize; i++) {
      if (inverse_a) store(inverse_a + i * kLanes, 1.0f / load(a2 + i * kLanes));
      store(a2 + i * kLanes, load(a2 + i * kLanes) * kLog2E);
    }
  }

  // [channels, N] → [vector][state][lane]; zeros in the lanes beyond the last channel, and for a null source.
  void transpose(const float* from, float* to) const {
    const i64 states = a.stateSize;
    for (i64 v = 0; v < vectors(); v++)
      for (i64 n = 0; n < states; n++)
        for (i64 l = 0; l < kLanes; l++)
          to[(v * states + n) * kLanes + l] = from && l < lanes_of(v) ? from[(v * kLanes + l) * states + n] : 0.0f;
  }

  void transpose_back(const float* from, float* to) const {
    const i64 states = a.stateSize;
    for (i64 e = 0; e < channels; e++)
      for (i64 n = 0; n < states; n++) to[e * states + n] = from[(e / kLanes * states + n) * kLanes + e % kLanes];
  }

  // Calls f(k, row, load, store) for the rows of a chunk, in scan order: load(p) and store(p, x) take the vector's channels
  // from row p.
  template <class F>
  ELAPID_INLINE void each_row(i64 v, i64 from, i64 count, F f) const {
    if (lanes_of(v) >= kLanes) each_row_of<true>(v, from, count, f);
    else each_row_of<false>(v, from, count, f);
  }

  template <bool kFull, class F>
  ELAPID_INLINE void each_row_of(i64 v, i64 from, i64 count, F f) const {
    const i64 e = first + v * kLanes, n = kFull ? i64(kLanes) : lanes_of(v);
    const auto load_part = [e, n](const float* p) { return kFull ? load(p + e) : load_first(p + e, n); };
    const auto store_part = [e, n](float* p, vf x) { kFull ? store(p + e, x) : store_first(p + e, x, n); };
    for (i64 k = 0; k < count; k++) f(k, row(from + k), load_part, store_part);
  }
};

// A chunk of a vector of channels as the loops over steps see it.
struct Steps {
  i64 count;
  const float* delta;  // Δ
  const float* x;      // what B multiplies: Δ·u, or u under zero-order hold
  const float* b;      // B and C of the first step, at the first state of the block
  const float* c;
  i64 b_step, c_step;
  const i32* reset;  // null: none
};

// Asks for the rows of the chunk to come, a row of each of kArrays arrays a step, while the current chunk is worked on: rows
// are too far apart for the hardware to foresee the next one, and a scan waits for memory half of its time without this.
// Without branches, in every step of a vector: an array that is not there is the first one again, and behind the last row
// nothing comes of it.
template <int kArrays>
struct Ahead {
  const float* next[kArrays];
  i64 step[kArrays];
  int count = 0;

  // Ahead of chunk c; of none where there is no such chunk.
  template <class Args>
  Ahead(const Block<Args>& block, bool exists, i64 c) {
    const Args& a = block.a;
    next[0] = a.u;
    step[0] = 0;
    if (!exists) return;
    const i64 row = block.row(c * a.chunk);
    add(block, a.u, row, a.uPitch);
    add(block, a.delta, row, a.deltaPitch);
    add(block, a.z, row, a.zPitch);
  }

  template <class Args>
  void add(const Block<Args>& block, const float* array, i64 row, i64 pitch) {
    if (!array) return;
    next[count] = array + row * pitch + block.first;
    step[count++] = block.row_step() * pitch;
  }

  // For vector v of the block.
  Ahead of(i64 v) const {
    Ahead ahead = *this;
    for (int i = 0; i < kArrays; i++) {
      ahead.next[i] = next[i < count ? i : 0] + v * kLanes;
      ahead.step[i] = step[i < count ? i : 0];
    }
    return ahead;
  }

  ELAPID_INLINE void touch() {
    ELAPID_UNROLL
    for (int i = 0; i < kArrays; i++) {
      __builtin_prefetch(next[i], 0, 2);
      next[i] += step[i];
    }
  }
};

// How a scan is cut for the threads. Segments of whole chunks are scanned at the same time only where blocks of channels
// alone leave most threads idle: every segment but one is then scanned twice.
struct Segments {
  i64 count, chunks_each;
};

inline Segments cut_segments(i64 chunks, i64 most, i64 tasks, i64 threads) {
  const i64 wanted = threads >= 4 * tasks ? min(min(most, chunks), threads / tasks) : 1;
  const i64 each = ceil_div(chunks, max(wanted, i64(1)));
  return {ceil_div(chunks, each), each};
}

// A state carried across a segment, of which `carries` holds what it made from zero and the sum of its Δ: [B, S, N + 1, E].
template <class Args>
void carry_across(const Block<Args>& block, i64 segment, Segments segments, const float* a2, float* state) {
  const Args& a = block.a;
  const i64 states = a.stateSize, per = segments.chunks_each * a.chunk;
  const bool reset = block.has_reset(segment * per, min((segment + 1) * per, a.length));
  const float* from = a.carries + (block.batch * segments.count + segment) * (states + 1) * a.channels + block.first;
  for (i64 v = 0; v < block.vectors(); v++) {
    const vf sum = load_first(from + states * a.channels + v * kLanes, block.lanes_of(v));
    for (i64 n = 0; n < states; n++) {
      const i64 at = (v * states + n) * kLanes;
      const vf own = load_first(from + n * a.channels + v * kLanes, block.lanes_of(v));
      store(state + at, reset ? own : own + exp2(sum * load(a2 + at)) * load(state + at));
    }
  }
}

template <class Args>
void write_carry(const Block<Args>& block, i64 segment, Segments segments, const float* state, const float* delta_sum) {
  const Args& a = block.a;
  const i64 states = a.stateSize;
  float* to = a.carries + (block.batch * segments.count + segment) * (states + 1) * a.channels + block.first;
  for (i64 v = 0; v < block.vectors(); v++) {
    for (i64 n = 0; n < states; n++)
      store_first(to + n * a.channels + v * kLanes, load(state + (v * states + n) * kLanes), block.lanes_of(v));
    store_first(to + states * a.channels + v * kLanes, load(delta_sum + v * kLanes), block.lanes_of(v));
  }
}

// Runs the tasks on the threads, or all on this one where there is too little work to wake another for.
template <class F>
ELAPID_INLINE void each_task(Pool& pool, i64 tasks, i64 work, F f) {
  if (work >= 2 * kElementwiseGrain) return pool.each(tasks, f);
  for (i64 task = 0; task < tasks; task++) f(task, 0);
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
