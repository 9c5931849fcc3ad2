import { defineKernel, input, optionalInput, output } from '../../tensor/index.js';
import { groupTokensGpu, routeBackwardGpu, routeGpu, routerLossesGpu } from './webgpu.js';

/**
 * Of each token t, with p for `probabilities`: p[t, e] = e^logits[t, e] / Σⱼ e^logits[t, j]; choice[t], the first e with the largest p; gate[t] = p[t, choice[t]];
 * logSum[t] = ln Σⱼ e^logits[t, j].
 */
export const route = defineKernel('route', {
  buffers: { logits: input.f32, probabilities: output.f32, choice: output.i32, gate: output.f32, logSum: output.f32 },
  parameters: { tokens: 'int', experts: 'int' },
  operations: (p) => 4 * p.tokens * p.experts,
  divisions: ({ experts }) => [{ along: 'tokens', strides: { logits: experts, probabilities: experts, choice: 1, gate: 1, logSum: 1 } }],
  webgpu: routeGpu,
  reference({ logits, probabilities: p, choice, gate, logSum }, { tokens, experts }) {
    for (let t = 0; t < tokens; t++) {
      const row = logits.subarray(t * experts, (t + 1) * experts);
      const largest = row.reduce((a, b) => Math.max(a, b), -Infinity);
      const log = Math.log(row.reduce((sum, value) => sum + Math.exp(value - largest), 0));
      let best = 0;
      for (let e = 0; e < experts; e++) {
        p[t * experts + e] = Math.exp((row[e] ?? NaN) - largest - log);
        if ((p[t * experts + e] ?? NaN) > (p[t * experts + best] ?? NaN)) best = e;
      }
      choice[t] = best;
      gate[t] = p[t * experts + best] ?? NaN;
      logSum[t] = largest + log;
    }
  },
});

/**
 * dLogits of `route` and `router_losses`: with dp[t, e] = dGate[t] where e is t's choice, plus dBalance·balanceWeight·E·counts[e]/total²,
 * dLogits[t, e] = p[t, e]·(dp[t, e] − Σⱼ p[t, j]·dp[t, j]) + dZ·zWeight·2·logSum[t]·p[t, e]/total. What is left out is 0.
 */
export const routeBackward = defineKernel('route_backward', {
  buffers: {
    ...{ probabilities: input.f32, choice: input.i32, logSum: input.f32, counts: input.i32 },
    ...{ dGate: optionalInput.f32, dBalance: optionalInput.f32, dZ: optionalInput.f32, dLogits: output.f32 },
  },
  parameters: { tokens: 'int', experts: 'int', total: 'int', balanceWeight: 'float', zWeight: 'float' },
  operations: (p) => 6 * p.tokens * p.experts,
  divisions: ({ experts }) => [{ along: 'tokens', strides: { probabilities: experts, choice: 1, logSum: 1, dGate: 1, dLogits: experts } }],
  webgpu: routeBackwardGpu,
  reference({ probabilities: p, choice, logSum, counts, dGate, dBalance, dZ, dLogits }, { tokens, experts, total, balanceWeight, zWeight }) {
    const balance = ((dBalance?.[0] ?? 0) * balanceWeight * experts) / total ** 2;
    const z = (2 * (dZ?.[0] ?? 0) * zWeight) / total;
    for (let t = 0; t < tokens; t++) {
      const own = p.subarray(t * experts, (t + 1) * experts);
      const dp = Float64Array.from(own, (_, e) => balance * (counts[e] ?? NaN) + (e === choice[t] ? (dGate?.[t] ?? 0) : 0));
      const mean = own.reduce((sum, value, e) => sum + value * (dp[e] ?? NaN), 0);
      own.forEach((value, e) => (dLogits[t * experts + e] = value * ((dp[e] ?? NaN) - mean + z * (logSum[t] ?? NaN))));
    }
  },
});

/**
 * Groups tokens by their choice, each expert's in the order of the tokens, of which an expert takes the first `capacity`. counts[e] tokens chose e;
 * those that e took are order[offsets[e]] to order[offsets[e + 1] − 1]. place[t] is where token t stands in `order`, −1 where it was dropped;
 * `order` is −1 from offsets[E] on.
 */
export const groupTokens = defineKernel('group_tokens', {
  buffers: { choice: input.i32, counts: output.i32, offsets: output.i32, order: output.i32, place: output.i32 },
  parameters: { tokens: 'int', experts: 'int', capacity: 'int' },
  webgpu: groupTokensGpu,
  reference({ choice, counts, offsets, order, place }, { tokens, experts, capacity }) {
    counts.fill(0, 0, experts);
    for (let t = 0; t < tokens; t++) counts[choice[t] ?? 0] = (counts[choice[t] ?? 0] ?? 0) + 1;
    offsets[0] = 0;
    for (let e = 0; e < experts; e++) offsets[e + 1] = (offsets[e] ?? 0) + Math.min(counts[e] ?? 0, capacity);
    order.fill(-1, 0, tokens);
    const next = Int32Array.from(offsets);
    for (let t = 0; t < tokens; t++) {
      const e = choice[t] ?? 0;
      const at = next[e] ?? 0;
      const kept = at < (offsets[e + 1] ?? 0);
      place[t] = kept ? at : -1;
      if (!kept) continue;
      order[at] = t;
      next[e] = at + 1;
    }
  },
});

/**
 * What a router is told besides the task's loss (Fedus et al. 2021; Zoph et al. 2022), and the share of tokens that were dropped:
 * balance = balanceWeight·E·Σₑ (Σₜ p[t, e]/tokens)·counts[e]/tokens, z = zWeight·Σₜ logSum[t]²/tokens, dropped = 1 − offsets[E]/tokens.
 */
export const routerLosses = defineKernel('router_losses', {
  buffers: { probabilities: input.f32, logSum: input.f32, counts: input.i32, offsets: input.i32, balance: output.f32, z: output.f32, dropped: output.f32 },
  parameters: { tokens: 'int', experts: 'int', balanceWeight: 'float', zWeight: 'float' },
  operations: (p) => 2 * p.tokens * p.experts,
  webgpu: routerLossesGpu,
  reference({ probabilities: p, logSum, counts, offsets, balance, z, dropped }, { tokens, experts, balanceWeight, zWeight }) {
    let [sum, squares] = [0, 0];
    for (let t = 0; t < tokens; t++) {
      for (let e = 0; e < experts; e++) sum += (p[t * experts + e] ?? NaN) * (counts[e] ?? NaN);
      squares += (logSum[t] ?? NaN) ** 2;
    }
    balance[0] = (balanceWeight * experts * sum) / tokens ** 2;
    z[0] = (zWeight * squares) / tokens;
    dropped[0] = 1 - (offsets[experts] ?? NaN) / tokens;
  },
});
