// The forward scan: h ← exp(ΔA)·h + Δ·B·u, y = C·h + D·u, then the gate, in one pass over memory; h stays in registers.
namespace elapid {
namespace ELAPID_TARGET {

// Advances kStates states of a vector of channels over a chunk; adds C·h to y.
template <int kStates, bool kHold, bool kOutput>
ELAPID_NOINLINE void advance(const Steps& s, const float* a2, const float* inverse_a, float* state, float* y, Ahead<4> ahead) {
  vf h[kStates];
#pragma GCC unroll 16
  for (int j = 0; j < kStates; j++) h[j] = load(state + j * kLanes);
  const float* b = s.b;
  const float* c = s.c;
  for (i64 k = 0; k < s.count; k++, b += s.b_step, c += s.c_step) {
    if (s.reset && s.reset[k]) {
#pragma GCC unroll 16
      for (int j = 0; j < kStates; j++) h[j] = vf{};
    }
    ahead.touch();
    const vf delta = load(s.delta + k * kLanes), x = load(s.x + k * kLanes);
    vf sums[2] = {};
#pragma GCC unroll 16
    for (int j = 0; j < kStates; j++) {
      if constexpr (kHold) {
        vf m1;
        const vf exponent = delta * load(a2 + j * kLanes);
        const vf decay = exp2_and_m1(exponent, m1);
        h[j] = decay * h[j] + hold_gain(delta, exponent, m1, load(inverse_a + j * kLanes)) * (x * splat(b[j]));
      } else {
        h[j] = exp2(delta * load(a2 + j * kLanes)) * h[j] + x * splat(b[j]);
      }
      if constexpr (kOutput) sums[j % 2] += h[j] * splat(c[j]);
    }
    if constexpr (kOutput) store(y + k * kLanes, load(y + k * kLanes) + (sums[0] + sums[1]));
  }
#pragma GCC unroll 16
  for (int j = 0; j < kStates; j++) store(state + j * kLanes, h[j]);
}

// A row of one of the arrays a scan goes along, and how far the next step's is.
template <class Float>
struct Along {
  Float* at;
  i64 step;
};

struct Rows {
  Along<const float> delta, u;
  Along<float> y;
  vf skip;
};

// advance<kStates, false, true> for all states of a vector at once: x and D·u are worked out on the way, which saves a pass
// over the chunk. Δ and y are rows of the arrays, or of scratch where softplus comes before and the gate after: these take
// so many dependent instructions that in this loop they would fill the processor's queue and keep the states out of it.
template <int kStates>
ELAPID_NOINLINE void advance_rows(const Steps& s, Rows rows, const float* a2, float* state, Ahead<4> ahead) {
  vf h[kStates];
#pragma GCC unroll 16
  for (int j = 0; j < kStates; j++) h[j] = load(state + j * kLanes);
  const float* b = s.b;
  const float* c = s.c;
  for (i64 k = 0; k < s.count; k++, b += s.b_step, c += s.c_step) {
    if (s.reset && s.reset[k]) {
#pragma GCC unroll 16
      for (int j = 0; j < kStates; j++) h[j] = vf{};
    }
    ahead.touch();
    const vf delta = load(rows.delta.at), u = load(rows.u.at), x = delta * u;
    vf sums[2] = {rows.skip * u, vf{}};
#pragma GCC unroll 16
    for (int j = 0; j < kStates; j++) {
      h[j] = exp2(delta * load(a2 + j * kLanes)) * h[j] + x * splat(b[j]);
      sums[j % 2] += h[j] * splat(c[j]);
    }
    store(rows.y.at, sums[0] + sums[1]);
    rows.delta.at += rows.delta.step;
    rows.u.at += rows.u.step;
    rows.y.at += rows.y.step;
  }
#pragma GCC unroll 16
  for (int j = 0; j < kStates; j++) store(state + j * kLanes, h[j]);
}

template <bool kHold>
struct ForwardScan {
  const SelectiveScan& a;
  Block<SelectiveScan> block;
  float *a2, *inverse_a, *state, *delta, *x, *y, *delta_sum;
  i32* marks;

  ForwardScan(const SelectiveScan& args, i64 batch, i64 first, i64 channels, float* scratch)
      : a(args), block{args, batch, first, channels} {
    Carver carver{scratch};
    const i64 per_state = a.stateSize * kMaxChannels, per_step = a.chunk * kLanes;
    a2 = carver.take(per_state);
    inverse_a = kHold ? carver.take(per_state) : nullptr;
    state = carver.take(per_state);
    delta = carver.take(per_step);
    x = carver.take(per_step);
    y = carver.take(per_step);
    delta_sum = carver.take(kMaxChannels);
    marks = reinterpret_cast<i32*>(carver.take(a.chunk));
    block.load_a(a2, inverse_a);
  }

  void start_from_zero() {
    block.transpose(nullptr, state);
    for (i64 v = 0; v < block.vectors(); v++) store(delta_sum + v * kLanes, vf{});
  }

  i64 state_offset() const { return (block.batch * a.channels + block.first) * a.stateSize; }

  void start_from_initial() { block.transpose(a.initialState ? a.initialState + state_offset() : nullptr, state); }

  void write_final() const { block.transpose_back(state, a.finalState + state_offset()); }

  // Scans chunks [begin, end) from `state` on; without kOutput only the state and the sums of Δ move.
  template <bool kOutput>
  void run(i64 begin, i64 end) {
    for (i64 c = begin; c < end; c++) {
      const i64 from = c * a.chunk, count = block.chunk_size(c);
      if (kOutput && a.states) write_checkpoint(c);
      const i32* reset = block.resets(from, count, marks);
      const i64 row = block.row(from), step = block.row_step();
      Ahead<4> ahead(block, c + 1 < end, c + 1);
      if (kOutput && c + 1 < end) ahead.add(block, a.y, block.row(from + a.chunk), a.channels);
      for (i64 v = 0; v < block.vectors(); v++) {
        if (kOutput && run_rows(v, from, count, reset, ahead)) continue;
        read_rows<kOutput>(v, from, count);
        each_state_block<kForwardStates>(a.stateSize, [&]<int kStates>(i64 n) {
          const i64 at = (v * a.stateSize + n) * kLanes;
          const Steps steps{count, delta, x, a.B + row * a.bPitch + n, a.C + row * a.cPitch + n, step * a.bPitch, step * a.cPitch, reset};
          advance<kStates, kHold, kOutput>(steps, a2 + at, kHold ? inverse_a + at : nullptr, state + at, y, ahead.of(v));
        });
        if (kOutput) write_rows(v, from, count);
      }
    }
  }

  // A chunk of a whole vector of channels with as many states as registers hold; false where it is not one.
  bool run_rows(i64 v, i64 from, i64 count, const i32* reset, const Ahead<4>& ahead) {
    if constexpr (!kHold && kLanes == 16) {
      if (a.stateSize != kForwardStates || block.lanes_of(v) < kLanes) return false;
      const i64 row = block.row(from), step = block.row_step(), e = block.first + v * kLanes, at = v * a.stateSize * kLanes;
      const bool change = a.softplus || a.deltaBias;
      if (change) {
        const vf bias = a.deltaBias ? load(a.deltaBias + e) : vf{};
        block.each_row(v, from, count, [&](i64 k, i64 r, auto load_part, auto) {
          vf d = load_part(a.delta + r * a.deltaPitch) + bias, slope;
          if (a.softplus) d = softplus_and_slope(d, slope);
          store(delta + k * kLanes, d);
        });
      }
      Rows rows{{a.delta + row * a.deltaPitch + e, step * a.deltaPitch}, {a.u + row * a.uPitch + e, step * a.uPitch},
                {a.y + row * a.channels + e, step * a.channels}, a.D ? load(a.D + e) : vf{}};
      if (change) rows.delta = {delta, kLanes};
      if (a.z) rows.y = {y, kLanes};
      const Steps steps{count, nullptr, nullptr, a.B + row * a.bPitch, a.C + row * a.cPitch, step * a.bPitch, step * a.cPitch, reset};
      advance_rows<kForwardStates>(steps, rows, a2 + at, state + at, ahead.of(v));
      if (a.z) write_rows(v, from, count);
      return true;
    }
    return false;
  }

  template <bool kOutput>
  void read_rows(i64 v, i64 from, i64 count) {
    const i64 e = block.first + v * kLanes, n = block.lanes_of(v);
    const vf bias = a.deltaBias ? load_first(a.deltaBias + e, n) : vf{};
    const vf skip = a.D ? load_first(a.D + e, n) : vf{};
    vf sum{};
    block.each_row(v, from, count, [&](i64 k, i64 row, auto load_part, auto) {
      vf d = load_part(a.delta + row * a.deltaPitch) + bias, slope;
      if (a.softplus) d = softplus_and_slope(d, slope);
      const vf u = load_part(a.u + row * a.uPitch);
      store(delta + k * kLanes, d);
      store(x + k * kLanes, kHold ? u : d * u);
      if constexpr (kOutput) store(y + k * kLanes, skip * u);
      else sum += d;
    });
    if constexpr (!kOutput) store(delta_sum + v * kLanes, load(delta_sum + v * kLanes) + sum);
  }

  void write_rows(i64 v, i64 from, i64 count) const {
    block.each_row(v, from, count, [&](i64 k, i64 row, auto load_part, auto store_part) {
      vf out = load(y + k * kLanes);
      if (a.z) {
        const vf z = load_part(a.z + row * a.zPitch);
        out *= z * fast_sigmoid(z);
      }
      store_part(a.y + row * a.channels, out);
    });
  }

  void write_checkpoint(i64 c) const {
    for (i64 v = 0; v < block.vectors(); v++)
      for (i64 n = 0; n < a.stateSize; n++)
        store_first(a.states + block.checkpoint(c, n, v), load(state + (v * a.stateSize + n) * kLanes), block.lanes_of(v));
  }
};

template <bool kHold>
void scan_forward(const SelectiveScan& a, Pool& pool) {
  using Scan = ForwardScan<kHold>;
  // Blocks as wide as leave each thread a few of them.
  const i64 threads = pool.threads(), vectors = ceil_div(a.channels, i64(kLanes));
  const i64 width = kLanes * max(i64(1), min(kMaxChannels / kLanes, a.batch * vectors / (3 * threads)));
  const i64 blocks = ceil_div(a.channels, width), tasks = a.batch * blocks, chunks = ceil_div(a.length, a.chunk);
  const i64 work = a.batch * a.length * a.channels * a.stateSize;
  const Segments segments = cut_segments(chunks, a.carries ? a.segments : 1, tasks, threads);

  const auto each_segment = [&](i64 count, auto f) {
    each_task(pool, tasks * count, work, [&](i64 task, int thread) {
      const i64 segment = task % count, block = task / count, first = block % blocks * width;
      Scan scan(a, block / blocks, first, min(width, a.channels - first), pool.scratch<float>(thread));
      f(scan, segment, segment * segments.chunks_each, min((segment + 1) * segments.chunks_each, chunks));
    });
  };
  if (segments.count > 1) {
    each_segment(segments.count - 1, [&](Scan& scan, i64 segment, i64 begin, i64 end) {
      scan.start_from_zero();
      scan.template run<false>(begin, end);
      write_carry(scan.block, segment, segments, scan.state, scan.delta_sum);
    });
  }
  each_segment(segments.count, [&](Scan& scan, i64 segment, i64 begin, i64 end) {
    scan.start_from_initial();
    for (i64 s = 0; s < segment; s++) carry_across(scan.block, s, segments, scan.a2, scan.state);
    scan.template run<true>(begin, end);
    if (segment == segments.count - 1) scan.write_final();
  });
}

void selective_scan(const SelectiveScan& a, Pool& pool) { a.hold ? scan_forward<true>(a, pool) : scan_forward<false>(a, pool); }

}  // namespace ELAPID_TARGET
}  // namespace elapid
