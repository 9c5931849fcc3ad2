import type { GpuDispatch } from '../../../tensor/index.js';
import { scoreAt, stateAt } from './common.js';
import { pairAt, reading, sumAt, tileNumbers, type Tiles } from './gradients.js';
import { headTile, stepsBinding, stepsCode, tileDispatch, tileLength } from './tiles.js';

/** Rows of pairs in workgroup memory at a time. */
const rowsAtOnce = 32;
const pitch = tileLength + 1;

/**
 * dDelta, and its sums over the tile for dA and dDeltaBias. The gradient of Δ·A at position r is the sum of all that a decay over r carries: pairs
 * of a position before it and one from it on, what enters the tile and ends from r on, what begins before r and leaves, and what passes through.
 * Nothing is subtracted, so that little stays exact where much else decays at once.
 */
export function rateGradients(tiles: Tiles): GpuDispatch {
  const { parameters, has, dtype } = tiles.launch;
  const { batch, heads } = parameters;
  return tileDispatch({
    variant: 'rates',
    count: batch * tiles.round.roundTiles * heads,
    buffers: [
      stepsBinding,
      ...reading('scores', 'sums', 'pairs', 'after', tiles.before),
      'A',
      ...(has('dDelta') ? ['dDelta'] : []),
      'rateParts',
    ],
    numbers: { ...tileNumbers(tiles), tiles: tiles.cut.tiles },
    functions: `
  ${stepsCode}
  var<workgroup> shares: array<f32, 256>;
  var<workgroup> befores: array<f32, ${rowsAtOnce * pitch}>;`,
    body: `
    ${headTile()}
    let through = from_start(step_of(rows - 1u));
    var share = 0.0;
    if (through != 0.0) {
      for (var n = thread; n < p.stateSize * p.headSize; n += 256u) {
        share += ${stateAt('after', 'round_tile', '0u', 'n')} * ${stateAt(tiles.before, tiles.beforeTile, '0u', 'n')};
      }
    }
    shares[thread] = share;
    workgroupBarrier();
    for (var stride = 128u; stride > 0u; stride /= 2u) {
      if (thread < stride) { shares[thread] += shares[thread + stride]; }
      workgroupBarrier();
    }
    var gradient = through * shares[0];
    if (thread < rows) {
      for (var t = 0u; t < thread; t++) { gradient += ${sumAt('t', 1)}; }
      for (var t = thread; t < rows; t++) { gradient += ${sumAt('t', 2)}; }
    }
    for (var t0 = 0u; t0 < rows; t0 += ${rowsAtOnce}u) {
      workgroupBarrier();
      let t = t0 + thread;
      if (thread < ${rowsAtOnce}u && t < rows) {
        var sum = 0.0;
        for (var s = 0u; s < t; s++) {
          befores[thread * ${pitch}u + s] = sum;
          sum += ${pairAt('t', 's')} * ${scoreAt('t', 's')};
        }
        befores[thread * ${pitch}u + t] = sum;
      }
      workgroupBarrier();
      if (thread < rows) {
        for (var t = max(t0, thread); t < min(t0 + ${rowsAtOnce}u, rows); t++) { gradient += befores[(t - t0) * ${pitch}u + thread]; }
      }
    }
    var slope = 0.0;
    var of_rate = 0.0;
    if (thread < rows) {
      let step = step_of(thread);
      slope = (gradient * A[p.A_at + h] + ${sumAt('thread', 0)}) * step.w;
      of_rate = gradient * step.z;
      ${has('dDelta') ? `dDelta[p.dDelta_at + (row + thread) * p.heads + h] = ${dtype('dDelta') ?? 'f32'}(slope);` : ''}
    }
    // Of what invocations beyond the tile have, nothing counts.
    workgroupBarrier();
    if (thread < ${tileLength}u) {
      befores[thread] = of_rate;
      befores[${tileLength}u + thread] = slope;
    }
    workgroupBarrier();
    if (thread < 2u) {
      var total = 0.0;
      for (var t = 0u; t < rows; t++) { total += befores[${tileLength}u * thread + t]; }
      rateParts[p.rateParts_at + ((b * p.tiles + tile) * p.heads + h) * 2u + thread] = total;
    }`,
  });
}
