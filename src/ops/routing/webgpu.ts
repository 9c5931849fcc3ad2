import { fold, type GpuKernel } from '../../tensor/index.js';
import { perElement } from '../../wgsl/per-element.js';
import { teamSum } from '../../wgsl/rows.js';
import { repeat } from '../../wgsl/vectors.js';

const threads = 256;
/** Blocks of tokens that an invocation adds up at once. */
const together = 16;

/** An invocation a token: experts are few. */
export const routeGpu: GpuKernel<'logits' | 'probabilities' | 'choice' | 'gate' | 'logSum', 'tokens' | 'experts'> = ({ parameters: { tokens } }) => ({
  dispatches: [
    perElement({
      variant: 'route',
      count: tokens,
      buffers: ['logits', 'probabilities', 'choice', 'gate', 'logSum'],
      body: `
        let row = p.logits_at + i * p.experts;
        let to = p.probabilities_at + i * p.experts;
        var largest = logits[row];
        for (var e = 1u; e < p.experts; e++) { largest = max(largest, logits[row + e]); }
        var total = 0.0;
        for (var e = 0u; e < p.experts; e++) { total += exp(logits[row + e] - largest); }
        let share = 1.0 / total;
        var best = 0u;
        var own = exp(logits[row] - largest) * share;
        for (var e = 0u; e < p.experts; e++) {
          let value = exp(logits[row + e] - largest) * share;
          probabilities[to + e] = value;
          if (value > own) { best = e; own = value; }
        }
        choice[p.choice_at + i] = i32(best);
        gate[p.gate_at + i] = own;
        logSum[p.logSum_at + i] = largest + log(total);`,
    }),
  ],
});

export const routeBackwardGpu: GpuKernel<
  'probabilities' | 'choice' | 'logSum' | 'counts' | 'dGate' | 'dBalance' | 'dZ' | 'dLogits',
  'tokens' | 'experts' | 'total' | 'balanceWeight' | 'zWeight'
> = ({ parameters: { tokens }, has }) => {
  const given = (['dGate', 'dBalance', 'dZ'] as const).filter((name) => has(name));
  return {
    dispatches: [
      perElement({
        variant: `route backward ${given.join()}`,
        count: tokens,
        buffers: ['probabilities', 'choice', 'counts', ...given, ...(has('dZ') ? ['logSum'] : []), 'dLogits'],
        body: `
          let at = i * p.experts;
          let n = f32(p.total);
          let balance = ${has('dBalance') ? 'dBalance[p.dBalance_at] * p.balanceWeight * f32(p.experts) / n' : '0.0'};
          let own = ${has('dGate') ? 'dGate[p.dGate_at + i]' : '0.0'};
          let best = u32(choice[p.choice_at + i]);
          var mean = 0.0;
          for (var e = 0u; e < p.experts; e++) {
            mean += probabilities[p.probabilities_at + at + e] * (balance * (f32(counts[p.counts_at + e]) / n) + select(0.0, own, e == best));
          }
          let shift = ${has('dZ') ? '2.0 * dZ[p.dZ_at] * p.zWeight / n * logSum[p.logSum_at + i]' : '0.0'} - mean;
          for (var e = 0u; e < p.experts; e++) {
            let slope = balance * (f32(counts[p.counts_at + e]) / n) + select(0.0, own, e == best);
            dLogits[p.dLogits_at + at + e] = probabilities[p.probabilities_at + at + e] * (slope + shift);
          }`,
      }),
    ],
  };
};

/**
 * Counts by block of tokens, which one workgroup turns into where each block's begin, experts side by side; then each token's place is that
 * and the number of its block's earlier tokens with the same choice. Numbers are added in any order, and are the same.
 */
export const groupTokensGpu: GpuKernel<'choice' | 'counts' | 'offsets' | 'order' | 'place', 'tokens' | 'experts' | 'capacity'> = ({ parameters: { tokens, experts } }) => {
  const blocks = Math.ceil(tokens / threads);
  const main = `@compute @workgroup_size(${threads})
      fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) thread: u32)`;
  const ownChoice = `
        let block = flat_workgroup(id, count);
        let i = block * ${threads}u + thread;
        let live = i < p.tokens;
        var own = -1;
        if (live) { own = choice[p.choice_at + i]; }
        choices[thread] = own;
        workgroupBarrier();`;
  return {
    scratch: { blockStarts: { dtype: 'i32', size: Math.max(1, blocks) * experts } },
    dispatches: [
      {
        variant: 'count',
        buffers: ['choice', 'order', 'blockStarts'],
        workgroups: fold(blocks),
        numbers: { blocks },
        code: () => `
      var<workgroup> choices: array<i32, ${threads}>;
      ${main} {
        ${ownChoice}
        if (live) { order[p.order_at + i] = -1; }
        if (block < p.blocks) {
          for (var e = thread; e < p.experts; e += ${threads}u) {
            var sum = 0;
            for (var j = 0u; j < ${threads}u; j++) { sum += select(0, 1, choices[j] == i32(e)); }
            blockStarts[p.blockStarts_at + block * p.experts + e] = sum;
          }
        }
      }`,
      },
      {
        variant: 'starts',
        buffers: ['blockStarts', 'counts', 'offsets'],
        workgroups: [1],
        numbers: { blocks },
        code: () => `
      ${main} {
        for (var e = thread; e < p.experts; e += ${threads}u) {
          var sum = 0;
          // Several blocks are asked for at once.
          for (var block = 0u; block < p.blocks; block += ${together}u) {
            ${repeat(together, (n) => `let at${n} = p.blockStarts_at + min(block + ${n}u, p.blocks - 1u) * p.experts + e; let own${n} = blockStarts[at${n}];`)}
            ${repeat(together, (n) => `if (block + ${n}u < p.blocks) { blockStarts[at${n}] = sum; sum += own${n}; }`)}
          }
          counts[p.counts_at + e] = sum;
        }
        storageBarrier();
        if (thread == 0u) {
          var at = 0;
          for (var e = 0u; e < p.experts; e++) {
            offsets[p.offsets_at + e] = at;
            at += min(counts[p.counts_at + e], i32(p.capacity));
          }
          offsets[p.offsets_at + p.experts] = at;
        }
      }`,
      },
      {
        variant: 'place',
        buffers: ['choice', { name: 'blockStarts', access: 'read' }, { name: 'offsets', access: 'read' }, 'order', 'place'],
        workgroups: fold(blocks),
        code: () => `
      var<workgroup> choices: array<i32, ${threads}>;
      ${main} {
        ${ownChoice}
        if (!live) { return; }
        var rank = blockStarts[p.blockStarts_at + block * p.experts + u32(own)];
        for (var j = 0u; j < thread; j++) { rank += select(0, 1, choices[j] == own); }
        let kept = rank < i32(p.capacity);
        let at = offsets[p.offsets_at + u32(own)] + rank;
        place[p.place_at + i] = select(-1, at, kept);
        if (kept) { order[p.order_at + u32(at)] = i32(i); }
      }`,
      },
    ],
  };
};

export const routerLossesGpu: GpuKernel<
  'probabilities' | 'logSum' | 'counts' | 'offsets' | 'balance' | 'z' | 'dropped',
  'tokens' | 'experts' | 'balanceWeight' | 'zWeight'
> = ({ gpu, parameters: { tokens } }) => {
  const blocks = Math.ceil(tokens / threads);
  const sums = teamSum(gpu, 'team_sum', threads, threads, 'vec2<f32>');
  const main = `@compute @workgroup_size(${threads})
      fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) thread: u32)`;
  return {
    scratch: { parts: { dtype: 'f32', size: 2 * Math.max(1, blocks) } },
    dispatches: [
      {
        variant: 'losses of blocks',
        buffers: ['probabilities', 'logSum', 'counts', 'parts'],
        workgroups: fold(blocks),
        numbers: { blocks },
        code: () => `
      ${sums}
      ${main} {
        let block = flat_workgroup(id, count);
        let i = block * ${threads}u + thread;
        var own = vec2<f32>();
        if (i < p.tokens) {
          let n = f32(p.tokens);
          for (var e = 0u; e < p.experts; e++) {
            own.x += probabilities[p.probabilities_at + i * p.experts + e] * (f32(counts[p.counts_at + e]) / n);
          }
          let z = logSum[p.logSum_at + i];
          own.y = z * z;
        }
        let total = team_sum(thread, own);
        if (thread == 0u && block < p.blocks) {
          parts[p.parts_at + 2u * block] = total.x;
          parts[p.parts_at + 2u * block + 1u] = total.y;
        }
      }`,
      },
      {
        variant: 'losses',
        buffers: [{ name: 'parts', access: 'read' }, 'offsets', 'balance', 'z', 'dropped'],
        workgroups: [1],
        numbers: { blocks },
        code: () => `
      ${sums}
      ${main} {
        var own = vec2<f32>();
        for (var block = thread; block < p.blocks; block += ${threads}u) {
          own += vec2<f32>(parts[p.parts_at + 2u * block], parts[p.parts_at + 2u * block + 1u]);
        }
        let total = team_sum(thread, own);
        if (thread == 0u) {
          let n = f32(p.tokens);
          balance[p.balance_at] = p.balanceWeight * f32(p.experts) * total.x / n;
          z[p.z_at] = p.zWeight * total.y / n;
          dropped[p.dropped_at] = f32(i32(p.tokens) - offsets[p.offsets_at + p.experts]) / n;
        }
      }`,
      },
    ],
  };
};
