import { defineKernel, inout, input, optionalInout, output } from '../../tensor/index.js';
import { gumbel, rowKey } from './random.js';
import { sampleTokensGpu } from './webgpu.js';

/**
 * ids[r] = the first of the largest logits[r, c] + temperature·gumbel(seed, step, r, c) with step = counter[0]; NaN and −∞ are
 * never chosen, and where there is nothing else the id is −1. history[r, step] = ids[r] where step is in [0, capacity); then
 * counter[0] += 1.
 */
export const sampleTokens = defineKernel('sample_tokens', {
  buffers: { logits: input.float, ids: output.i32, counter: inout.i32, history: optionalInout.i32 },
  parameters: { rows: 'int', columns: 'int', logitsPitch: 'int', capacity: 'int', seed: 'int', temperature: 'float' },
  operations: (p) => (p.temperature === 0 ? 1 : 6) * p.rows * p.columns,
  webgpu: sampleTokensGpu,
  touched: ({ rows }) => ({ history: rows }),
  reference({ logits, ids, counter, history }, { rows, columns, logitsPitch, capacity, seed, temperature }) {
    const step = counter[0] ?? 0;
    for (let r = 0; r < rows; r++) {
      const key = rowKey(seed, step, r);
      let [id, largest] = [-1, -Infinity];
      for (let c = 0; c < columns; c++) {
        const score = (logits[r * logitsPitch + c] ?? NaN) + (temperature === 0 ? 0 : temperature * gumbel(key, c));
        if (score > largest) [id, largest] = [c, score];
      }
      ids[r] = id;
      if (history && step >= 0 && step < capacity) history[r * capacity + step] = id;
    }
    counter[0] = step + 1;
  },
});
