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
  float *delta, *slope, *u, *x, *dy, *y, *dx, *ddelta;   // [vector][step][lane]
  float *dd, *dbias, *delta_sum;                         // [vector][lane]
  History history;
  float* sums;
  i32* marks;

  BackwardScan(const SelectiveScanBackward& args, i64 batch, i64 first, i64 channels, float* scratch)
      : a(args), block{args, batch, first, channels} {
    Carver carver{scratch};
    const i64 per_state = a.stateSize * kMaxChannels, per_step = a.chunk * kMaxChannels;
    float** const by_state[] = {&a2, &carry, &da};
    for (float** array : by_state) *array = carver.take(per_state);
    inverse_a = kHold ? carver.take(per_state) : nullptr;
    float** const by_step[] = {&delta, &slope, &u, &dy, &y, &dx, &ddelta};
    for (float** array : by_step) *array = carver.take(per_step);
    x = kHold ? u : carver.take(per_step);
    float** const by_channel[] = {&dd, &dbias, &delta_sum};
    for (float** array : by_channel) *array = carver.take(kMaxChannels);
    const i64 per_block = a.chunk * kBackwardStates * kLanes;
    float** const by_block[] = {&history.decay, &history.sum_b, &history.sum_c};
    for (float** array : by_block) *array = carver.take(per_block);
    history.gain = kHold ? carver.take(per_block) : nullptr;
    history.h = carver.take(per_block + kBackwardStates * kLanes);
    sums = carver.take(a.chunk * kBackwardStates + kLanes);
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

  Steps steps_of(i64 from, i64 count, const i32* reset, i64 v, i64 n) const {
    const i64 row = block.row(from), step = block.row_step(), rows = v * a.chunk * kLanes;
    return {count, delta + rows, x + rows, a.B + row * a.bPitch + n, a.C + row * a.cPitch + n,
            step * a.bPitch, step * a.cPitch, reset};
  }

  // Only the adjoint, over chunks [begin, end).
  void carry_back(i64 begin, i64 end) {
    for (i64 c = end - 1; c >= begin; c--) {
      const i64 from = c * a.chunk, count = block.chunk_size(c);
      read_rows(from, count);
      const i32* reset = block.resets(from, count, marks);
      for (i64 v = 0; v < block.vectors(); v++) {
        for (i64 k = 0; k < count; k++)
          store(delta_sum + v * kLanes, load(delta_sum + v * kLanes) + load(delta + (v * a.chunk + k) * kLanes));
        each_state_block<kForwardStates>(a.stateSize, [&]<int kStates>(i64 n) {
          const i64 at = (v * a.stateSize + n) * kLanes;
          carry_adjoint<kStates>(steps_of(from, count, reset, v, n), a2 + at, dy + v * a.chunk * kLanes, carry + at);
        });
      }
    }
  }

  // Everything, over chunks [begin, end). db and dc: this group's parts, [B, L, N].
  void run(i64 begin, i64 end, float* db, float* dc) {
    for (i64 c = end - 1; c >= begin; c--) {
      const i64 from = c * a.chunk, count = block.chunk_size(c);
      read_rows(from, count);
      const i32* reset = block.resets(from, count, marks);
      each_state_block<kBackwardStates>(a.stateSize, [&]<int kStates>(i64 n) {
        clear(history.sum_b, count * kStates);
        clear(history.sum_c, count * kStates);
        for (i64 v = 0; v < block.vectors(); v++) {
          const i64 at = (v * a.stateSize + n) * kLanes, rows = v * a.chunk * kLanes;
          for (i64 j = 0; j < kStates; j++)
            store(history.h + j * kLanes, load_first(a.states + block.checkpoint(c, n + j, v), block.lanes_of(v)));
          const Steps steps = steps_of(from, count, reset, v, n);
          const float* inverse = kHold ? inverse_a + at : nullptr;
          recompute<kStates, kHold>(steps, a2 + at, inverse, history, a.dz ? y + rows : nullptr);
          go_back<kStates, kHold>(steps, a2 + at, inverse, history, {dy + rows, dx + rows, ddelta + rows}, carry + at, da + at);
        }
        if (db) write_sums<kStates>(history.sum_b, db + n, from, count);
        if (dc) write_sums<kStates>(history.sum_c, dc + n, from, count);
      });
      write_rows(from, count);
    }
  }

  // Sums the lanes of [step][state][lane] and writes them to the rows of the steps.
  template <int kStates>
  void write_sums(const float* from, float* to, i64 first_step, i64 count) {
    for (i64 i = 0; i < count * kStates; i += kLanes) {
      vf v[kLanes];
      for (i64 l = 0; l < kLanes; l++) v[l] = i + l < count * kStates ? load(from + (i + l) * kLanes) : vf{};
      store(sums + i, sum_each(v));
    }
    for (i64 k = 0; k < count; k++) {
      float* row = to + block.row(first_step + k) * a.stateSize;
      for (i64 j = 0; j < kStates; j++) row[j] = sums[k * kStates + j];
    }
  }

  void read_rows(i64 from, i64 count) {
    for (i64 k = 0; k < count; k++) {
      const i64 row = block.row(from + k);
      for (i64 v = 0; v < block.vectors(); v++) {
        const i64 at = (v * a.chunk + k) * kLanes, e = block.first + v * kLanes, n = block.lanes_of(v);
        vf rate;
        const vf d = block.step_size(row, v, rate), input = block.input(row, v);
        store(delta + at, d);
        store(slope + at, rate);
        store(u + at, input);
        if constexpr (!kHold) store(x + at, d * input);
        vf out = a.dy ? load_first(a.dy + row * a.dyPitch + e, n) : vf{};
        if (a.z) {
          const vf z = load_first(a.z + row * a.zPitch + e, n);
          out *= z * fast_sigmoid(z);
        }
        store(dy + at, out);
        store(y + at, a.D ? input * load_first(a.D + e, n) : vf{});
        store(dx + at, vf{});
        store(ddelta + at, vf{});
      }
    }
  }

  void write_rows(i64 from, i64 count) {
    for (i64 k = 0; k < count; k++) {
      const i64 row = block.row(from + k);
      for (i64 v = 0; v < block.vectors(); v++) {
        const i64 at = (v * a.chunk + k) * kLanes, e = block.first + v * kLanes, n = block.lanes_of(v);
        const vf out = load(dy + at), input = load(u + at), through = load(dx + at);
        vf du = kHold ? through : through * load(delta + at), step = load(ddelta + at);
        if constexpr (!kHold) step += through * input;
        if (a.D) du += out * load_first(a.D + e, n);
        step *= load(slope + at);
        store(dd + v * kLanes, load(dd + v * kLanes) + out * input);
        store(dbias + v * kLanes, load(dbias + v * kLanes) + step);
        if (a.du) store_first(a.du + row * a.channels + e, du, n);
        if (a.dDelta) store_first(a.dDelta + row * a.channels + e, step, n);
        if (a.dz) {
          const vf z = load_first(a.z + row * a.zPitch + e, n), s = fast_sigmoid(z);
          const vf cotangent = a.dy ? load_first(a.dy + row * a.dyPitch + e, n) : vf{};
          store_first(a.dz + row * a.channels + e, cotangent * load(y + at) * (s + z * s * (1.0f - s)), n);
        }
      }
    }
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
