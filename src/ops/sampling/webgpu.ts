import type { GpuKernel } from '../../tensor/index.js';
import { firstLargest, orderedKey } from '../../wgsl/largest.js';
import { wgslMath } from '../../wgsl/math.js';
import { perElement } from '../../wgsl/per-element.js';
import { perRow } from '../../wgsl/rows.js';
import { lanesOf, vectorOf } from '../../wgsl/vectors.js';

/** `rowKey` and `gumbel` of random.ts in WGSL, with log1p of `wgslMath`. */
const wgslRandom = `
  fn mix_bits(word: u32) -> u32 {
    var x = word;
    x = (x ^ (x >> 16u)) * 0x7feb352du;
    x = (x ^ (x >> 15u)) * 0x846ca68bu;
    return x ^ (x >> 16u);
  }
  fn row_key(seed: u32, step: u32, row: u32) -> u32 {
    var key = mix_bits(seed + 0x9e3779b9u);
    key = mix_bits(key + step + 0x9e3779b9u);
    return mix_bits(key + row + 0x9e3779b9u);
  }
  fn gumbel(key: u32, element: u32) -> f32 {
    let bits = mix_bits(mix_bits(key + element) ^ mix_bits(key ^ 0x9e3779b9u));
    let v = (f32(bits >> 9u) + 0.5) * 1.1920928955078125e-7;
    return -log(log1p(v / (1.0 - v)));
  }`;

export const sampleTokensGpu: GpuKernel<
  'logits' | 'ids' | 'counter' | 'history',
  'rows' | 'columns' | 'logitsPitch' | 'temperature'
> = (launch) => {
  const { gpu, parameters, dtype, has } = launch;
  const { rows, columns, logitsPitch, temperature } = parameters;
  const lanes = lanesOf(launch, [columns, logitsPitch], ['logits']);
  const greedy = temperature === 0;
  return {
    dispatches: [
      perRow({
        variant: `${greedy ? 'greedy' : 'gumbel'}/${lanes}`,
        gpu,
        rows,
        items: columns / lanes,
        buffers: [
          { name: 'logits', as: vectorOf(lanes, dtype('logits') ?? 'f32') },
          'ids',
          { name: 'counter', access: 'read' },
          ...(has('history') ? ['history'] : []),
        ],
        functions: `${orderedKey} ${greedy ? '' : wgslMath + wgslRandom}`,
        reductions: [firstLargest],
        values: { item: [vectorOf(lanes), `${vectorOf(lanes)}(logits[p.logits_at + row * (p.logitsPitch / ${lanes}u) + c])`] },
        hold: 16,
        body: (pass) => `
          let step = u32(counter[p.counter_at]);
          ${greedy ? '' : 'let key = row_key(p.seed, step, row);'}
          // Keys of NaN and of −∞ never win.
          var best = vec2<u32>(0x007fffffu, 0xffffffffu);
          ${pass(`
            for (var lane = 0u; lane < ${lanes}u; lane++) {
              let column = ${lanes}u * c + lane;
              let score = item${lanes === 1 ? '' : '[lane]'}${greedy ? '' : ' + p.temperature * gumbel(key, column)'};
              let rank = ordered_key(score);
              if (rank > best.x && rank != 0xffffffffu) { best = vec2<u32>(rank, column); }
            }`)}
          let chosen = bitcast<i32>(first_largest(thread, best).y);
          if (live && member == 0u) {
            ids[p.ids_at + row] = chosen;
            ${has('history') ? 'if (step < p.capacity) { history[p.history_at + row * p.capacity + step] = chosen; }' : ''}
          }`,
      }),
      perElement({ variant: 'advance', count: 1, buffers: ['counter'], body: 'counter[p.counter_at] += 1;' }),
    ],
  };
};
