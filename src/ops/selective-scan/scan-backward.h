// The backward scan. A task takes a group of channels of one batch row (or of a segment of it) through its chunks, last
// first. dB and dC sum over channels: each group writes its part, and a second pass adds the parts in order; likewise dA, dD
// and the bias over batch rows and segments.
namespace elapid {
namespace ELAPID_TARGET {

template <bool kHold>
struct BackwardScan {
  const SelectiveScanBackward& a;
  Block<SelectiveScanBackward> block;
  float *a2, *inverse_a, *carry, *da;                    // [vector][state][lane]
  float *delta, *slope, *u, *x, *dy, *y, *dx, *ddelta, *dz;  // [step][lane]; dz: its factor beside y
  float *dd, *dbias, *delta_sum;                         // [vector][lane]
  History history;
  float* sums;
  i32* marks;

  BackwardScan(const SelectiveScanBackward& args, i64 batch, i64 first, i64 channels, float* scratch)
      : a(args), block{args, batch, first, channels} {
    Carver carver{scratch};
    const i64 per_state = a.stateSize * kMaxChannels, per_step = a.chunk * kLanes;
    float** const by_state[] = {&a2, &carry, &da};
    for (float** array : by_state) *array = carver.take(per_state);
    inverse_a = kHold ? carver.take(per_state) : nullptr;
    float** const by_step[] = {&delta, &slope, &u, &dy, &y, &dx, &ddelta, &dz};
    for (float** array : by_step) *array = carver.take(per_step);
    x = kHold ? u : carver.take(per_step);
    float** const by_channel[] = {&dd, &dbias, &delta_sum};
    for (float** array : by_channel) *array = carver.take(kMaxChannels);
    const i64 per_block = a.chunk * kBackwardStates * kLanes;
    history.decay = carver.take(per_block);
    history.gain = kHold ? carver.take(per_block) : nullptr;
    history.h = carver.take(per_block + kBackwardStates * kLanes);
    sums = carver.take(2 * a.chunk * a.stateSize);
    marks = reinterpret_cast<i32*>(carver.take(a.chunk));
    block.load_a(a2, inverse_a);
    clear(da, block.vectors() * a.stateSize);
    for (float** array : by_channel) clear(*array, block.vectors());
  }

  static void clear(float* p, i64 vectors) {
    for (i64 i = 0; i < vectors; i++) store(p + i * kLanes, vf{});
  }

  i64 state_offset() const { return (block.batch * a.channels + block.first) * a.stateSize; }

  void start_from_zero() { block.transpose(nullptr, carry); }

  void start_from_final() { block.transpose(a.dFinalState ? a.dFinalState + state_offset() : nullptr, carry); }

  void write_initial() const {
    if (a.dInitialState) block.transpose_back(carry, a.dInitialState + state_offset());
  }

  Steps steps_of(i64 from, i64 count, const i32* reset, i64 n) const {
    const i64 row = block.row(from), step = block.row_step();
    return {count, delta, x, a.B + row * a.bPitch + n, a.C + row * a.cPitch + n,
            step * a.bPitch, step * a.cPitch, reset};
  }

  // Only the adjoint, over chunks [begin, end).
  void carry_back(i64 begin, i64 end) {
    for (i64 c = end - 1; c >= begin; c--) {
      const i64 from = c * a.chunk, count = block.chunk_size(c);
      const i32* reset = block.resets(from, count, marks);
      for (i64 v = 0; v < block.vectors(); v++) {
        read_rows(v, from, count);
        vf sum = load(delta_sum + v * kLanes);
        for (i64 k = 0; k < count; k++) sum += load(delta + k * kLanes);
        store(delta_sum + v * kLanes, sum);
        each_state_block<kForwardStates>(a.stateSize, [&]<int kStates>(i64 n) {
          const i64 at = (v * a.stateSize + n) * kLanes;
          carry_adjoint<kStates>(steps_of(from, count, reset, n), a2 + at, dy, carry + at);
        });
      }
    }
  }

  // Everything, over chunks [begin, end). db and dc: this group's parts, [B, L, N].
  void run(i64 begin, i64 end, float* db, float* dc) {
    for (i64 c = end - 1; c >= begin; c--) {
      const i64 from = c * a.chunk, count = block.chunk_size(c);
      const i32* reset = block.resets(from, count, marks);
      Ahead<7> ahead(block, c > begin, c - 1);
      if (c > begin) ask_for_the_rest(ahead, c - 1);
      for (i64 v = 0; v < block.vectors(); v++) {
        read_rows(v, from, count);
        each_state_block<kBackwardStates>(a.stateSize, [&]<int kStates>(i64 n) {
          const i64 at = (v * a.stateSize + n) * kLanes;
          for (i64 j = 0; j < kStates; j++)
            store(history.h + j * kLanes, load_first(a.states + block.checkpoint(c, n + j, v), block.lanes_of(v)));
          const Steps steps = steps_of(from, count, reset, n);
          const float* inverse = kHold ? inverse_a + at : nullptr;
          recompute<kStates, kHold>(steps, a2 + at, inverse, history, a.dz ? y : nullptr, ahead.of(v));
          const Gradients gradients{dy, dx, ddelta, sums + n * 2 * a.chunk, v == 0};
          go_back<kStates, kHold>(steps, a2 + at, inverse, history, gradients, carry + at, da + at);
        });
        write_rows(v, from, count);
      }
      write_sums(from, count, db, dc);
    }
  }

  void ask_for_the_rest(Ahead<7>& ahead, i64 c) const {
    const i64 row = block.row(c * a.chunk);
    ahead.add(block, a.dy, row, a.dyPitch);
    float* const outputs[] = {a.du, a.dDelta, a.dz};
    for (float* output : outputs) ahead.add(block, output, row, a.channels);
    for (i64 n = 0; n < a.stateSize; n++)
      for (i64 e = 0; e < block.channels; e += 16) __builtin_prefetch(a.states + block.checkpoint(c, n, 0) + e, 0, 2);
  }

  void write_sums(i64 from, i64 count, float* db, float* dc) const {
    each_state_block<kBackwardStates>(a.stateSize, [&]<int kStates>(i64 n) {
      for (i64 k = 0; k < count; k++) {
        const float* sum = sums + n * 2 * a.chunk + k * 2 * kStates;
        const i64 to = block.row(from + k) * a.stateSize + n;
        for (i64 j = 0; dc && j < kStates; j++) dc[to + j] = sum[j];
        for (i64 j = 0; db && j < kStates; j++) db[to + j] = sum[kStates + j];
      }
    });
  }

  void read_rows(i64 v, i64 from, i64 count) {
    const i64 e = block.first + v * kLanes, n = block.lanes_of(v);
    const vf bias = a.deltaBias ? load_first(a.deltaBias + e, n) : vf{};
    const vf skip = a.D ? load_first(a.D + e, n) : vf{};
    block.each_row(v, from, count, [&](i64 k, i64 row, auto load_part, auto) {
      const i64 at = k * kLanes;
      vf d = load_part(a.delta + row * a.deltaPitch) + bias, rate = splat(1.0f);
      if (a.softplus) d = softplus_and_slope(d, rate);
      const vf input = load_part(a.u + row * a.uPitch);
      store(delta + at, d);
      store(slope + at, rate);
      store(u + at, input);
      if constexpr (!kHold) store(x + at, d * input);
      vf out = a.dy ? load_part(a.dy + row * a.dyPitch) : vf{};
      if (a.z) {
        const vf z = load_part(a.z + row * a.zPitch), s = fast_sigmoid(z), gate = z * s;
        store(dz + at, out * (s + gate * (1.0f - s)));
        out *= gate;
      }
      store(dy + at, out);
      store(y + at, skip * input);
      store(dx + at, vf{});
      store(ddelta + at, vf{});
    });
  }

  void write_rows(i64 v, i64 from, i64 count) {
    const i64 e = block.first + v * kLanes, n = block.lanes_of(v);
    const vf skip = a.D ? load_first(a.D + e, n) : vf{};
    vf dd_sum = load(dd + v * kLanes), dbias_sum = load(dbias + v * kLanes);
    block.each_row(v, from, count, [&](i64 k, i64 row, auto, auto store_part) {
      const i64 at = k * kLanes, out_row = row * a.channels;
      const vf out = load(dy + at), input = load(u + at), through = load(dx + at);
      vf du = skip * out, step = load(ddelta + at);
      if constexpr (kHold) {
        du += through;
      } else {
        du += through * load(delta + at);
        step += through * input;
      }
      step *= load(slope + at);
      dd_sum += out * input;
      dbias_sum += step;
      if (a.du) store_part(a.du + out_row, du);
      if (a.dDelta) store_part(a.dDelta + out_row, step);
      if (a.dz) store_part(a.dz + out_row, load(dz + at) * load(y + at));
    });
    store(dd + v * kLanes, dd_sum);
    store(dbias + v * kLanes, dbias_sum);
  }

  // This task's part of dA [E, N], dD [E] and the bias's gradient [E], one after the other.
  void write_parameters(float* to) const {
    block.transpose_back(da, to + block.first * a.stateSize);
    float* vectors = to + a.channels * a.stateSize + block.first;
    for (i64 v = 0; v < block.vectors(); v++) {
      store_first(vectors + v * kLanes, load(dd + v * kLanes), block.lanes_of(v));
      store_first(vectors + a.channels + v * kLanes, load(dbias + v * kLanes), block.lanes_of(v));
    }
  }
};

// to[i] = Σ_part from[part·stride + i], parts in order; nothing where `to` is null.
inline void add_parts(Pool& pool, const float* from, i64 parts, i64 stride, float* to, i64 count) {
  if (!to) return;
  each_block(pool, count, max(i64(256), kElementwiseGrain / parts), [&](i64 begin, i64 end) {
    for (i64 i = begin; i < end; i += kLanes) {
      vf s = load_first(from + i, end - i);
      for (i64 p = 1; p < parts; p++) s += load_first(from + p * stride + i, end - i);
      store_first(to + i, s, end - i);
    }
  });
}

template <bool kHold>
void scan_backward(const SelectiveScanBackward& a, Pool& pool) {
  using Scan = BackwardScan<kHold>;
  const i64 groups = ceil_div(a.channels, a.groupChannels), tasks = a.batch * groups, chunks = ceil_div(a.length, a.chunk);
  const i64 work = 2 * a.batch * a.length * a.channels * a.stateSize;
  const Segments segments = cut_segments(chunks, a.carries ? a.segments : 1, tasks, pool.threads());
  const i64 sequence = a.batch * a.length * a.stateSize, parameters = a.channels * (a.stateSize + 2);

  const auto each_segment = [&](i64 first_segment, auto f) {
    const i64 count = segments.count - first_segment;
    each_task(pool, tasks * count, work, [&](i64 task, int thread) {
      const i64 segment = first_segment + task % count, batch = task / count / groups, group = task / count % groups;
      const i64 first = group * a.groupChannels;
      Scan scan(a, batch, first, min(a.groupChannels, a.channels - first), pool.scratch<float>(thread));
      f(scan, segment, group, segment * segments.chunks_each, min((segment + 1) * segments.chunks_each, chunks));
    });
  };
  if (segments.count > 1) {
    each_segment(1, [&](Scan& scan, i64 segment, i64, i64 begin, i64 end) {
      scan.start_from_zero();
      scan.carry_back(begin, end);
      write_carry(scan.block, segment, segments, scan.carry, scan.delta_sum);
    });
  }
  each_segment(0, [&](Scan& scan, i64 segment, i64 group, i64 begin, i64 end) {
    scan.start_from_final();
    for (i64 s = segments.count - 1; s > segment; s--) carry_across(scan.block, s, segments, scan.a2, scan.carry);
    float* part = groups > 1 ? a.sequenceParts + group * 2 * sequence : nullptr;
    scan.run(begin, end, part ? part : a.dB, part ? part + sequence : a.dC);
    if (segment == 0) scan.write_initial();
    scan.write_parameters(a.channelParts + (scan.block.batch * segments.count + segment) * parameters);
  });

  if (groups > 1) {
    add_parts(pool, a.sequenceParts, groups, 2 * sequence, a.dB, sequence);
    add_parts(pool, a.sequenceParts + sequence, groups, 2 * sequence, a.dC, sequence);
  }
  const i64 rows = a.batch * segments.count, matrix = a.channels * a.stateSize;
  add_parts(pool, a.channelParts, rows, parameters, a.dA, matrix);
  add_parts(pool, a.channelParts + matrix, rows, parameters, a.dD, a.channels);
  add_parts(pool, a.channelParts + matrix + a.channels, rows, parameters, a.dDeltaBias, a.channels);
}

void selective_scan_backward(const SelectiveScanBackward& a, Pool& pool) {
  a.hold ? scan_backward<true>(a, pool) : scan_backward<false>(a, pool);
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
