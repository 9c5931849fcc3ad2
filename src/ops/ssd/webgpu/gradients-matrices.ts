/** Gradients that are products of matrices, on matrix units. */
import type { GpuDispatch, GpuKernel } from '../../../tensor/index.js';
import { repeat } from '../../../wgsl/vectors.js';
import { eights, never, packFours } from '../../../wgsl/eights.js';
import type { BackwardBuffers, BackwardParameters } from './backward.js';
import { blocksOf, cutNumbers, factorAt, factorsBinding, halvesOf, headTile, operandEights, pairCode, pairsOf, squareAt, stepAt, stepsBinding } from './common-matrices.js';
import { askForHop, declareHop, decayingCode, hop, keepOwnSteps, nextOwnSteps, onDiagonal, skipFour } from './forward-matrices.js';
import { eachRow, matrixDispatch, Products, rowStep, threads, type ChunkRound } from './matrices.js';
import { cutCode, tileLength, type Cut } from './tiles.js';

type Launch = Parameters<GpuKernel<BackwardBuffers, BackwardParameters>>[0];

export const dyOf = ({ dtype }: Launch) => eights('dy', dtype('dy'), 'p.dyPitch');

/** What of a launch's numbers a buffer of sums has: `sums` [B, H, L, 4] and after it parts of dD, [B·tiles, skips]. */
export const sumsSize = ({ parameters: { batch, heads, length } }: Launch): number => 4 * batch * heads * length;
/** The sums of a head at a position: x·dx̃ in all, its part through the state after the chunk, dy·y through the state before it. */
export const sumAt = (t: string, which: number): string => `sums[p.sums_at + 4u * ((b * p.heads + h) * p.length + ${t}) + ${which}u]`;
/** Sums of what pairs of positions carry, of later (0) or earlier (1) positions of a pair of tiles. */
export const crossingAt = (chunk: string, pair: string, which: number, n: string): string =>
  `crossings[p.crossings_at + ((((b * p.chunks + ${chunk}) * p.pairs + ${pair}) * p.heads + h) * 2u + ${which}u) * ${tileLength}u + ${n}]`;

/** Statements after which an invocation has in `name` the sum over the eight that share a row. */
const acrossRow = (name: string): string => [1, 2, 4].map((mask) => `${name} += subgroupShuffleXor(${name}, ${mask}u);`).join(' ');

/**
 * `pairs` [B, G, L, chunk] in halves: how much x at one position of a chunk moves y at another, dy·x, Δ and decay, summed over the heads of a group; and `crossings`, for each
 * head sums of these times C·B over earlier, and over later positions.
 */
export function pairs(launch: Launch, cut: Cut): GpuDispatch {
  const { batch, groups, headSize } = launch.parameters;
  const { x } = operandEights(launch);
  const dy = dyOf(launch);
  const products = new Products({ rows: 64, columns: 64, depth: 64 }, true, true);
  return matrixDispatch({
    parameters: launch.parameters,
    variant: 'pairs',
    count: batch * groups * cut.chunks * pairsOf(cut),
    buffers: [x.binding, dy.binding, stepsBinding, factorsBinding, halvesOf('scores'), halvesOf('pairs', 'read_write'), 'crossings'],
    numbers: { ...cutNumbers(cut), pairs: pairsOf(cut), featureBlocks: blocksOf(headSize) },
    functions: `${cutCode} ${decayingCode} ${x.read} ${dy.read} var<workgroup> columns: array<f32, ${(threads / 32) * tileLength}>;`,
    vectors: Math.max(products.vectors, products.stripVectors),
    body: `${pairCode}
    let columns_here = length_of(earlier);
    let sharing = p.heads / p.groups;
    ${repeat(64 / rowStep, (n) => `var score_${n} = vec4<u32>(); var sum_of_${n} = vec4<f32>(); var sum_of_second_${n} = vec4<f32>();`)}
    ${eachRow((n) => `if (r < rows) { score_${n} = scores[${squareAt('scores', '(first + r)', 'j')}]; }`)}
    var next_whole = vec4<f32>();
    var next_rest = vec4<f32>();
    ${declareHop}
    ${products.declare}
    ${products.add(
      'sharing * p.featureBlocks',
      {
        left: {
          along: true,
          before: `let h = group * sharing + turn / p.featureBlocks; let first_feature = turn % p.featureBlocks * ${tileLength}u;
            if (i != j) { ${askForHop('earlier', 'later')} }`,
          load: `let e = first_feature + 8u * c;
            if (r < rows && e < p.headSize) {
              eight = dy_eight(b * p.length + first + r, (h * p.headSize + e) / 8u);
              if (i != j) { factor = ${factorAt('first + r')}.w; }
            }`,
          put: 'eight = scaled(eight, factor * hopped);',
        },
        right: {
          along: true,
          load: `let e = first_feature + 8u * c;
            if (r < columns_here && e < p.headSize) {
              let s = first_of(earlier) + r;
              eight = x_eight(b * p.length + s, (h * p.headSize + e) / 8u);
              factor = ${stepAt('s')}.z;
              if (i != j) { other = ${factorAt('s')}.z; }
            }`,
        },
      },
      {
        fetch: `if (i == j && thread < ${tileLength / 4}u) { let h = group * sharing + turn / p.featureBlocks; ${nextOwnSteps} }`,
        stage: `if (i == j && thread < ${tileLength / 4}u) { own_whole[thread] = next_whole; own_rest[thread] = next_rest; }
          var hopped = 1.0; if (i != j) { hopped = ${hop}; }`,
        after: `if ((turn + 1u) % p.featureBlocks == 0u) {
      let h = group * sharing + turn / p.featureBlocks;
      var column_sums = vec4<f32>();
      var column_sums_second = vec4<f32>();
      ${products.eights(
        (n) => `
        var one = first_sums;
        var two = second_sums;
        var carried_one = first_four(score_${n});
        var carried_two = second_four(score_${n});
        if (i == j) {
          let s = vec4<u32>(8u * c) + vec4<u32>(0u, 1u, 2u, 3u);
          ${decaysOnDiagonal}
          one = select(vec4<f32>(), decays_one * one, s <= vec4<u32>(r));
          two = select(vec4<f32>(), decays_two * two, s + vec4<u32>(4u) <= vec4<u32>(r));
          carried_one = select(vec4<f32>(), carried_one, s < vec4<u32>(r));
          carried_two = select(vec4<f32>(), carried_two, s + vec4<u32>(4u) < vec4<u32>(r));
        }
        sum_of_${n} += one;
        sum_of_second_${n} += two;
        carried_one *= one;
        carried_two *= two;
        column_sums += carried_one;
        column_sums_second += carried_two;
        let all = carried_one + carried_two;
        var row_sum = (all.x + all.y) + (all.z + all.w);
        ${acrossRow('row_sum')}
        if (c == 0u) { ${crossingAt('chunk', 'pair', 0, 'r')} = row_sum; }`,
      )}
      ${['column_sums', 'column_sums_second'].map((name) => [0, 1, 2, 3].map((k) => `{ var sum = ${name}[${k}]; sum += subgroupShuffleXor(sum, 8u); sum += subgroupShuffleXor(sum, 16u); ${name}[${k}] = sum; }`).join(' ')).join('\n      ')}
      if (thread % 32u < 8u) {
        let c = thread % 8u;
        for (var k = 0u; k < 4u; k++) {
          columns[thread / 32u * ${tileLength}u + 8u * c + k] = column_sums[k];
          columns[thread / 32u * ${tileLength}u + 8u * c + 4u + k] = column_sums_second[k];
        }
      }
      workgroupBarrier();
      if (thread < ${tileLength}u) {
        ${crossingAt('chunk', 'pair', 1, 'thread')} = ${Array.from({ length: threads / 32 }, (_, k) => `columns[thread + ${k * tileLength}u]`).join(' + ')};
      }
      if (${never('pairs')}) {
        ${products.each((sum) => `subgroupMatrixStore<row_major>(&pairs, 0u, ${sum}, 8u);`)}
      }
      ${products.clear}
    }`,
      },
    )}
    ${eachRow((n) => `if (r < rows) { pairs[${squareAt('pairs', '(first + r)', 'j')}] = ${packFours(`sum_of_${n}`, `sum_of_second_${n}`)}; }`)}`,
  });
}

/** Declares decays_one and decays_two: how positions 8·c on of the tile decay until position r of it. */
const decaysOnDiagonal = `
          let step = vec2<f32>(own_whole[r / 4u][r % 4u], own_rest[r / 4u][r % 4u]);
          let decays_one = power4((vec4<f32>(step.x) - own_whole[2u * c]) + (vec4<f32>(step.y) - own_rest[2u * c]));
          let decays_two = power4((vec4<f32>(step.x) - own_whole[2u * c + 1u]) + (vec4<f32>(step.y) - own_rest[2u * c + 1u]));`;

/** dx, sums of x·dx̃, x̃ = Δ·x, and parts of dD. */
export function featureGradients(launch: Launch, cut: Cut, round: ChunkRound): GpuDispatch {
  const { parameters, has, dtype } = launch;
  const { batch, heads, stateSize, skipByFeature } = parameters;
  const { x, B } = operandEights(launch);
  const dy = dyOf(launch);
  const dx = eights('dx', dtype('dx'), '(p.heads * p.headSize)');
  const throughStates = new Products({ rows: 64, columns: 64, depth: 64 }, true, false);
  const within = new Products({ rows: 64, columns: 64, depth: 64 }, false, false);
  const ofDy = has('dD') || (has('dx') && has('D'));
  const byFeature = skipByFeature === 1;
  const present = 'let e = first_feature + 8u * c; let row = b * p.length + first + r; let column = (h * p.headSize + e) / 8u;';
  return matrixDispatch({
    parameters: launch.parameters,
    variant: `features ${byFeature ? 'by feature' : ''} ${has('dD') ? 'dD' : ''}`,
    count: batch * round.roundTiles * heads,
    buffers: [
      ...[x.binding, B.binding, dy.binding, stepsBinding, factorsBinding, halvesOf('scores'), halvesOf('after')],
      ...(has('dx') ? [...(has('D') ? ['D'] : []), dx.binding] : []),
      'sums',
    ],
    numbers: { ...cutNumbers(cut), ...round, skipsFirst: sumsSize(launch) },
    functions: `${cutCode} ${decayingCode} ${x.read} ${B.read} ${dy.read} ${has('dx') ? dx.write : ''}`,
    vectors: Math.max(throughStates.vectors, within.vectors, within.stripVectors),
    body: `
    ${headTile('1u')}
    let tiles_here = min(p.tilesPerChunk, p.tiles - chunk * p.tilesPerChunk);
    ${keepOwnSteps}
    ${repeat(64 / rowStep, (n) => `var through_state_${n} = 0.0; var in_all_${n} = 0.0;`)}
    var until_end = vec4<f32>();
    var until_end_second = vec4<f32>();
    for (var k = 0u; k < 4u; k++) {
      let s = first + min(8u * (thread % 8u) + k, rows - 1u);
      until_end[k] = ${factorAt('s')}.z;
      until_end_second[k] = ${factorAt('first + min(8u * (thread % 8u) + 4u + k, rows - 1u)')}.z;
    }
    var skipped = vec4<f32>();
    var skipped_second = vec4<f32>();
    for (var first_feature = 0u; first_feature < p.headSize; first_feature += ${tileLength}u) {
      ${within.declare}
      ${declareHop}
      ${throughStates.add(`${blocksOf(stateSize)}u`, {
        left: {
          along: true,
          load: `let n = turn * ${tileLength}u + 8u * c;
            if (r < rows && n < p.stateSize) { eight = B_eight(b * p.length + first + r, (group * p.stateSize + n) / 8u); factor = ${factorAt('first + r')}.y; }`,
        },
        right: {
          along: false,
          scaled: false,
          load: `let n = turn * ${tileLength}u + r; let e = first_feature + 8u * c;
            if (n < p.stateSize && e < p.headSize) { eight = after[p.after_at + (((place * p.heads + h) * p.stateSize + n) * p.headSize + e) / 8u]; }`,
        },
      })}
      ${within.eights((n) => `${present} if (r < rows && e < p.headSize) { let own_x = x_eight(row, column);
        let all = first_sums * first_four(own_x) + second_sums * second_four(own_x);
        through_state_${n} += (all.x + all.y) + (all.z + all.w); }`)}
      ${within.add('tiles_here - own', {
        left: {
          along: false,
          scaled: false,
          before: `let start = first_of(tile + turn); let from_rows = length_of(tile + turn); if (turn > 0u) { ${askForHop('tile', 'tile + turn')} }`,
          load: `if (r < from_rows) { eight = scores[${squareAt('scores', '(start + r)', 'own')}]; }`,
          put: `if (turn == 0u) { ${onDiagonal('c')} } else { eight = weighted(eight, until_end, until_end_second); }`,
        },
        right: {
          along: false,
          load: `let e = first_feature + 8u * c;
            if (r < from_rows && e < p.headSize) {
              let t = start + r;
              eight = dy_eight(b * p.length + t, (h * p.headSize + e) / 8u);
              if (turn > 0u) { factor = ${factorAt('t')}.w; }
            }`,
          put: 'if (turn > 0u) { eight = scaled(eight, factor * hopped); }',
        },
      }, { stage: `var hopped = 1.0; if (turn > 0u) { hopped = ${hop}; }` })}
      if (${never('sums')}) {
        ${within.each((sum) => `subgroupMatrixStore<row_major>(&sums, 0u, ${sum}, 16u);`)}
      }
      ${has('dD') && byFeature ? 'skipped = vec4<f32>(); skipped_second = vec4<f32>();' : ''}
      ${within.eights(
        (n) => `${present}
        if (r < rows && e < p.headSize) {
          let own_x = x_eight(row, column);
          let all = first_sums * first_four(own_x) + second_sums * second_four(own_x);
          in_all_${n} += (all.x + all.y) + (all.z + all.w);
          ${ofDy ? 'let own_dy = dy_eight(row, column);' : ''}
          ${has('dD') ? 'skipped += first_four(own_x) * first_four(own_dy); skipped_second += second_four(own_x) * second_four(own_dy);' : ''}
          ${
            has('dx')
              ? `let step = ${stepAt('first + r')}.z;
          dx_put(row, column, step * first_sums${has('D') ? ` + ${skipFour('e')} * first_four(own_dy)` : ''}, step * second_sums${has('D') ? ` + ${skipFour('e + 4u')} * second_four(own_dy)` : ''});`
              : ''
          }
        }`,
      )}
      ${
        has('dD') && byFeature
          ? `
      workgroupBarrier();
      memory[2u * thread] = bitcast<vec4<u32>>(skipped);
      memory[2u * thread + 1u] = bitcast<vec4<u32>>(skipped_second);
      workgroupBarrier();
      if (thread < ${tileLength}u && first_feature + thread < p.headSize) {
        var total = 0.0;
        for (var k = 0u; k < ${rowStep}u; k++) { total += bitcast<f32>(memory[2u * (8u * k + thread / 8u) + thread % 8u / 4u][thread % 4u]); }
        sums[p.sums_at + p.skipsFirst + ((b * p.tiles + tile) * p.heads + h) * p.headSize + first_feature + thread] = total;
      }`
          : ''
      }
    }
    ${
      has('dD') && !byFeature
        ? `
    workgroupBarrier();
    let both = skipped + skipped_second;
    memory[thread].x = bitcast<u32>((both.x + both.y) + (both.z + both.w));
    workgroupBarrier();
    if (thread == 0u) {
      var total = 0.0;
      for (var k = 0u; k < ${threads}u; k++) { total += bitcast<f32>(memory[k].x); }
      sums[p.sums_at + p.skipsFirst + (b * p.tiles + tile) * p.heads + h] = total;
    }`
        : ''
    }
    ${eachRow((n) => `${acrossRow(`through_state_${n}`)} ${acrossRow(`in_all_${n}`)}
    if (c == 0u && r < rows) {
      ${sumAt('first + r', 0)} = in_all_${n};
      ${sumAt('first + r', 1)} = through_state_${n} * ${stepAt('first + r')}.z;
    }`)}`,
  });
}

/** The sums of dy·y as far as y comes from the state before the chunk. */
export function fromStates(launch: Launch, cut: Cut, round: ChunkRound): GpuDispatch {
  const { batch, heads } = launch.parameters;
  const { C } = operandEights(launch);
  const dy = dyOf(launch);
  const products = new Products({ rows: 64, columns: 64, depth: 32 }, true, false);
  return matrixDispatch({
    parameters: launch.parameters,
    variant: 'from states',
    count: batch * round.roundTiles * heads,
    buffers: [C.binding, dy.binding, factorsBinding, halvesOf('before'), 'sums'],
    numbers: { ...cutNumbers(cut), ...round },
    functions: `${cutCode} ${C.read} ${dy.read}`,
    vectors: Math.max(products.vectors, products.stripVectors),
    body: `
    ${headTile('1u')}
    ${repeat(64 / rowStep, (n) => `var from_state_${n} = 0.0;`)}
    for (var first_feature = 0u; first_feature < p.headSize; first_feature += ${tileLength}u) {
      ${products.declare}
      ${products.add('(p.stateSize + 31u) / 32u', {
        left: {
          along: true,
          load: `let n = turn * 32u + 8u * c;
            if (r < rows && n < p.stateSize) { eight = C_eight(b * p.length + first + r, (group * p.stateSize + n) / 8u); factor = ${factorAt('first + r')}.x; }`,
        },
        right: {
          along: false,
          scaled: false,
          load: `let n = turn * 32u + r; let e = first_feature + 8u * c;
            if (n < p.stateSize && e < p.headSize) { eight = before[p.before_at + (((place * p.heads + h) * p.stateSize + n) * p.headSize + e) / 8u]; }`,
        },
      })}
      if (${never('sums')}) {
        ${products.each((sum) => `subgroupMatrixStore<row_major>(&sums, 0u, ${sum}, 16u);`)}
      }
      ${products.eights((n) => `let e = first_feature + 8u * c; if (r < rows && e < p.headSize) { let own_dy = dy_eight(b * p.length + first + r, (h * p.headSize + e) / 8u);
        let all = first_sums * first_four(own_dy) + second_sums * second_four(own_dy);
        from_state_${n} += (all.x + all.y) + (all.z + all.w); }`)}
    }
    ${eachRow((n) => `${acrossRow(`from_state_${n}`)}
    if (c == 0u && r < rows) { ${sumAt('first + r', 2)} = from_state_${n}; }`)}`,
  });
}

/** dB or dC: through states, a head of the group after the other, then through the chunk's own positions, for all heads at once. */
export function weightGradients(launch: Launch, cut: Cut, round: ChunkRound, name: 'dB' | 'dC'): GpuDispatch {
  const { parameters, dtype } = launch;
  const { batch, groups, headSize, stateSize } = parameters;
  const ofB = name === 'dB';
  const { x, B, C } = operandEights(launch);
  const [moved, other] = ofB ? [x, C] : [dyOf(launch), B];
  const result = eights(name, dtype(name), '(p.groups * p.stateSize)');
  const block = { rows: 64, columns: 64, depth: 64 } as const;
  const throughStates = new Products(block, true, true);
  const within = new Products(block, !ofB, false);
  const [stateBlocks, featureBlocks] = [blocksOf(stateSize), blocksOf(headSize)];
  const state = ofB ? 'after' : 'before';
  return matrixDispatch({
    parameters: launch.parameters,
    variant: name,
    count: batch * round.roundTiles * groups * stateBlocks,
    buffers: [moved.binding, other.binding, ...(ofB ? [stepsBinding, halvesOf('after')] : [halvesOf('before')]), factorsBinding, halvesOf('pairs'), result.binding],
    numbers: { ...cutNumbers(cut), ...round, stateBlocks },
    functions: `${cutCode} ${moved.read} ${other.read} ${result.write}`,
    vectors: Math.max(throughStates.vectors, within.vectors, within.stripVectors),
    body: `
    let first_state = flat % p.stateBlocks * ${tileLength}u;
    let group = flat / p.stateBlocks % p.groups;
    let of_round = flat / p.stateBlocks / p.groups % p.roundTiles;
    let b = flat / p.stateBlocks / p.groups / p.roundTiles;
    let tile = p.firstTile + of_round;
    let chunk = tile / p.tilesPerChunk;
    let own = tile % p.tilesPerChunk;
    let place = b * p.roundChunks + chunk - p.firstChunk;
    let first = first_of(tile);
    let rows = length_of(tile);
    let sharing = p.heads / p.groups;
    let tiles_here = min(p.tilesPerChunk, p.tiles - chunk * p.tilesPerChunk);
    ${within.declare}
    ${throughStates.add(`sharing * ${featureBlocks}u`, {
      left: {
        along: true,
        load: `let h = group * sharing + turn / ${featureBlocks}u; let e = turn % ${featureBlocks}u * ${tileLength}u + 8u * c;
          if (r < rows && e < p.headSize) {
            eight = ${ofB ? 'x' : 'dy'}_eight(b * p.length + first + r, (h * p.headSize + e) / 8u);
            ${ofB ? `factor = ${factorAt('first + r')}.y; other = ${stepAt('first + r')}.z;` : `factor = ${factorAt('first + r')}.x;`}
          }`,
      },
      right: {
        along: true,
        scaled: false,
        load: `let h = group * sharing + turn / ${featureBlocks}u; let e = turn % ${featureBlocks}u * ${tileLength}u + 8u * c; let n = first_state + r;
          if (n < p.stateSize && e < p.headSize) { eight = ${state}[p.${state}_at + (((place * p.heads + h) * p.stateSize + n) * p.headSize + e) / 8u]; }`,
      },
    })}
    ${within.add(ofB ? 'tiles_here - own' : 'own + 1u', {
      left: {
        along: !ofB,
        scaled: false,
        load: ofB
          ? `if (r < length_of(tile + turn)) { eight = pairs[${squareAt('pairs', '(first_of(tile + turn) + r)', 'own')}]; }`
          : `if (r < rows) { eight = pairs[${squareAt('pairs', '(first + r)', 'turn')}]; }`,
      },
      right: {
        along: false,
        scaled: false,
        load: `let from_tile = ${ofB ? 'tile + turn' : 'tile - own + turn'}; let n = first_state + 8u * c;
          if (r < length_of(from_tile) && n < p.stateSize) { eight = ${ofB ? 'C' : 'B'}_eight(b * p.length + first_of(from_tile) + r, (group * p.stateSize + n) / 8u); }`,
      },
    })}
    if (${never(name)}) {
      ${within.each((sum) => `subgroupMatrixStore<row_major>(&${name}, 0u, ${sum}, 8u);`)}
      return;
    }
    ${within.eights(() => `let n = first_state + 8u * c; if (r < rows && n < p.stateSize) { ${name}_put(b * p.length + first + r, (group * p.stateSize + n) / 8u, first_sums, second_sums); }`)}`,
  });
}
