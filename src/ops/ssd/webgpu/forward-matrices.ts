/** The forward pass on matrix units. */
import type { GpuDispatch, GpuKernel, GpuWork } from '../../../tensor/index.js';
import { wgslMath } from '../../../wgsl/math.js';
import { eights, never, packFours } from '../../../wgsl/eights.js';
import { skipAt, type SequenceBuffers, type SequenceParameters } from './common.js';
import { blocksOf, chunkStates, cutNumbers, factorAt, factorsBinding, halvesOf, headTile, operandEights, outsideFour, putOutside, scores, squareAt, stepAt, steps, stepsBinding, walkChunks } from './common-matrices.js';
import { cutAndRounds, haveMatrices, matrixDispatch, Products, type ChunkRound } from './matrices.js';
import { cutCode, tileLength, type Cut } from './tiles.js';

export type ForwardBuffers = SequenceBuffers | 'initialState' | 'y' | 'finalState';
type Kernel = GpuKernel<ForwardBuffers, SequenceParameters>;
type Launch = Parameters<Kernel>[0];

export function canUseMatrices(launch: Launch): boolean {
  const { xPitch, zPitch, bPitch, cPitch } = launch.parameters;
  return haveMatrices(launch, { halves: ['x', 'B', 'C'], names: ['x', 'z', 'B', 'C', 'y', 'states'], pitches: [xPitch, zPitch, bPitch, cPitch] });
}

/** The tiles of a chunk up to a tile's own, of `weights` of pairs of positions, as the left factor; what decays within the tile itself is worked out for each pair. */
export const decayingCode = `
  var<workgroup> own_whole: array<vec4<f32>, ${tileLength / 4}>;
  var<workgroup> own_rest: array<vec4<f32>, ${tileLength / 4}>;
  fn power4(x: vec4<f32>) -> vec4<f32> { return select(exp2(x), vec4<f32>(), x < vec4<f32>(-126.0)); }`;

/** Statements of the first invocations that find how four of a tile's positions decay, into next_whole and next_rest; what lies beyond the tile is never looked at. */
export const nextOwnSteps = `
      for (var k = 0u; k < 4u; k++) {
        let step = ${stepAt('first + min(4u * thread + k, rows - 1u)')};
        next_whole[k] = step.x;
        next_rest[k] = step.y;
      }`;

/** Statements that keep all of the tile's for the workgroup. */
export const keepOwnSteps = `
    if (thread < ${tileLength / 4}u) {
      var next_whole = vec4<f32>();
      var next_rest = vec4<f32>();
      ${nextOwnSteps}
      own_whole[thread] = next_whole;
      own_rest[thread] = next_rest;
    }
    workgroupBarrier();`;

/**
 * WGSL of the decay from tile `from`'s end to the beginning of a later tile of the chunk, `to`: how much of a state remains after the tiles between.
 */
const hopCode = `
  fn hop(b: u32, h: u32, from_tile: u32, to_tile: u32) -> f32 {
    var product = 1.0;
    for (var between = from_tile + 1u; between < to_tile; between++) {
      product *= factors[p.factors_at + (b * p.heads + h) * p.length + first_of(between) + ${tileLength - 1}u].w;
    }
    return product;
  }`;

/** Of decays from one tile's end to the beginning of a later one: two steps, asked for with a tile of a factor, and WGSL of the decay when it comes. */
export const declareHop = 'var hop_from = vec2<f32>(); var hop_to = vec2<f32>();';
export const askForHop = (earlier: string, later: string): string =>
  `hop_from = ${stepAt(`first_of(${earlier}) + ${tileLength - 1}u`)}.xy; hop_to = ${stepAt(`first_of(${later}) - 1u`)}.xy;`;
export const hop = 'power((hop_to.x - hop_from.x) + (hop_to.y - hop_from.y))';

/** Statements for the diagonal: `eight` of position r, and positions 8·`c` on of the same tile, times how the latter decay until the former. */
export const onDiagonal = (c: string): string => `
      let eights_before = ${c};
      let step = vec2<f32>(own_whole[r / 4u][r % 4u], own_rest[r / 4u][r % 4u]);
      let s = vec4<u32>(8u * eights_before) + vec4<u32>(0u, 1u, 2u, 3u);
      let first = power4((vec4<f32>(step.x) - own_whole[2u * eights_before]) + (vec4<f32>(step.y) - own_rest[2u * eights_before])) * first_four(eight);
      let second = power4((vec4<f32>(step.x) - own_whole[2u * eights_before + 1u]) + (vec4<f32>(step.y) - own_rest[2u * eights_before + 1u])) * second_four(eight);
      let one = select(vec4<f32>(), first, s <= vec4<u32>(r));
      let two = select(vec4<f32>(), second, s + vec4<u32>(4u) <= vec4<u32>(r));
      eight = ${packFours('one', 'two')};`;

export const forwardByMatrices: Kernel = (launch): GpuWork => {
  const { gpu, parameters, has } = launch;
  const { batch, length, heads, headSize, groups, stateSize } = parameters;
  const numbers = batch * heads * headSize * stateSize;
  const { cut, rounds } = cutAndRounds(gpu, parameters, numbers);
  const roundChunks = Math.max(...rounds.map((round) => round.roundChunks));
  const { x } = operandEights(launch);
  return {
    dispatches: [
      steps(launch, cut),
      scores(launch, cut),
      ...rounds.flatMap((round) => [
        chunkStates(launch, cut, round, { weights: 'B', from: x, name: 'x', factor: `factor = ${factorAt('first + t')}.y; other = ${stepAt('first + t')}.z;` }),
        walkChunks(launch, cut, round, {
          variant: 'states before chunks',
          backward: false,
          buffers: [...(has('initialState') ? ['initialState'] : []), ...(has('states') ? [{ name: 'states', as: 'vec4<f32>' }] : []), 'finalState', { name: 'before', as: 'vec2<u32>' }],
          begin: `if (p.firstChunk > 0u) { state = ${outsideFour('finalState')}; }
            ${has('initialState') ? `else { state = ${outsideFour('initialState')}; }` : ''}`,
          each: `
            let four = bounded(state);
            before[p.before_at + at] = vec2<u32>(pack2x16float(four.xy), pack2x16float(four.zw));
            ${has('states') ? 'states[p.states_at + ((b * p.chunks + chunk) * p.heads + h) * size + number] = state;' : ''}
            state = factor * state + more;`,
          end: putOutside('finalState'),
        }),
        outputs(launch, cut, round),
      ]),
    ],
    scratch: {
      steps: { dtype: 'f32', size: 4 * batch * heads * length },
      factors: { dtype: 'f32', size: 4 * batch * heads * length },
      scores: { dtype: 'f32', size: (batch * groups * length * cut.tilesPerChunk * tileLength) / 2 },
      added: { dtype: 'f32', size: numbers * roundChunks },
      before: { dtype: 'f32', size: (numbers * roundChunks) / 2 },
    },
  };
};

/** y of a tile and a block of features: what earlier positions of the chunk and its own add, then what the state before the chunk does. */
function outputs(launch: Launch, cut: Cut, round: ChunkRound): GpuDispatch {
  const { parameters, has, dtype } = launch;
  const { batch, heads, headSize, stateSize } = parameters;
  const { x, C } = operandEights(launch);
  const y = eights('y', dtype('y'), '(p.heads * p.headSize)', true);
  const z = eights('z', dtype('z'), 'p.zPitch');
  // Tiles of less depth let more workgroups share a multiprocessor.
  const depth = 32;
  const perTile = tileLength / depth;
  const products = new Products({ rows: 64, columns: 64, depth }, true, false);
  const featureBlocks = blocksOf(headSize);
  return matrixDispatch({
    parameters,
    variant: 'y',
    count: batch * round.roundTiles * heads * featureBlocks,
    buffers: [
      ...[x.binding, C.binding, stepsBinding, factorsBinding, halvesOf('scores'), halvesOf('before')],
      ...(has('D') ? ['D'] : []),
      ...(has('z') ? [z.binding] : []),
      y.binding,
    ],
    numbers: { ...cutNumbers(cut), ...round, featureBlocks },
    functions: `${wgslMath} fn silu4(x: vec4<f32>) -> vec4<f32> { return vec4<f32>(silu(x.x), silu(x.y), silu(x.z), silu(x.w)); } ${cutCode} ${decayingCode} ${hopCode} ${x.read} ${C.read} ${has('z') ? z.read : ''} ${y.write}`,
    vectors: Math.max(products.vectors, products.stripVectors),
    body: `
    ${headTile('p.featureBlocks')}
    let first_feature = block * ${tileLength}u;
    ${keepOwnSteps}
    ${products.declare}
    ${products.add(`(own + 1u) * ${perTile}u + (p.stateSize + ${depth - 1}u) / ${depth}u`, {
      left: {
        along: true,
        before: `let j = turn / ${perTile}u; let within = turn % ${perTile}u; let n0 = (turn - min(turn, (own + 1u) * ${perTile}u)) * ${depth}u; let from_tile = tile - own + min(j, own); var hopped = 1.0; if (j < own) { hopped = hop(b, h, from_tile, tile); } let start = first_of(from_tile); let from_rows = length_of(from_tile);`,
        load: `if (r < rows) {
            if (j <= own) {
              eight = scores[${squareAt('scores', '(first + r)', 'j')} + within * ${depth / 8}u];
              if (j < own) { factor = hopped * ${factorAt('first + r')}.w; }
            } else {
              let n = n0 + 8u * c;
              if (n < p.stateSize) { eight = C_eight(b * p.length + first + r, (group * p.stateSize + n) / 8u); factor = ${factorAt('first + r')}.x; }
            }
          }`,
        put: `if (turn / ${perTile}u == own) { ${onDiagonal(`(c + turn % ${perTile}u * ${depth / 8}u)`)} } else { eight = scaled(eight, factor); }`,
      },
      right: {
        along: false,
        load: `let e = first_feature + 8u * c;
          if (e < p.headSize) {
            if (j <= own) {
              if (within * ${depth}u + r < from_rows) {
                let t = start + within * ${depth}u + r;
                eight = x_eight(b * p.length + t, (h * p.headSize + e) / 8u);
                factor = ${stepAt('t')}.z;
                if (j < own) { factor *= ${factorAt('t')}.z; }
              }
            } else {
              let n = n0 + r;
              if (n < p.stateSize) { eight = before[p.before_at + (((place * p.heads + h) * p.stateSize + n) * p.headSize + e) / 8u]; }
            }
          }`,
      },
    })}
    if (${never('y')}) {
      ${products.each((sum) => `subgroupMatrixStore<row_major>(&y, 0u, ${sum}, 8u);`)}
      return;
    }
    ${products.eights(
      () => `
      let e = first_feature + 8u * c;
      if (r < rows && e < p.headSize) {
        let row = b * p.length + first + r;
        let column = (h * p.headSize + e) / 8u;
        var one = first_sums;
        var two = second_sums;
        ${has('D') ? `{ let own_x = x_eight(row, column);
          one += ${skipFour('e')} * first_four(own_x);
          two += ${skipFour('e + 4u')} * second_four(own_x); }` : ''}
        ${has('z') ? `{ let gate = z_eight(row, column); one *= silu4(first_four(gate)); two *= silu4(second_four(gate)); }` : ''}
        y_put(row, column, one, two);
      }`,
    )}`,
  });
}

/** WGSL of D of four features. */
export const skipFour = (feature: string): string => `vec4<f32>(${[0, 1, 2, 3].map((k) => skipAt(`(${feature} + ${k}u)`)).join(', ')})`;
