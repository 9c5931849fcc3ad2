/** The steps of the walk back: a tile's states again, then their adjoint from the last to the first. */
import { laneOf, vectorOf } from '../../../wgsl/vectors.js';
import { flushSums, keepSums, type Adjoint } from './adjoint-sums.js';
import type { Geometry } from './layout.js';
import { loop, minus, plus, sum, type Index } from './loops.js';
import { dotCode, eachVector, rowVector, transposingSums, type WalkOptions } from './walk.js';

/**
 * Vector i of the states before step t of the tile, in variables of their own where loops are unrolled: compilers put an array
 * of that size into memory.
 */
const state = ({ unrolled }: Geometry, i: number, t: Index): string => (unrolled ? `h${i}_${String(t)}` : `h${i}[${String(t)}]`);

/** Declares the states of a tile; those before its first step are the kept ones. */
export function declareStates(geometry: Geometry): string {
  const { width, tile, unrolled } = geometry;
  const type = vectorOf(width);
  const declare = (i: number) =>
    unrolled
      ? Array.from({ length: tile + 1 }, (_, t) => `var ${state(geometry, i, t)} = ${type}(0.0);`).join(' ')
      : `var h${i}: array<${type}, ${tile + 1}>;`;
  return eachVector(geometry, (i) => `${declare(i)} ${state(geometry, i, 0)} = kept${i};`);
}

/** The states of a tile, from the first to the last. */
export const statesAgain = (options: WalkOptions): string =>
  loop(options.geometry.unrolled, 't1', options.geometry.tile, (t) => stepForward(options, t));

/** The states after step t of the tile, from those before it. */
function stepForward(options: WalkOptions, t: Index): string {
  const { geometry, hasStarts, hold } = options;
  return `{
    let t = u32(${String(t)});
    let d = tile[t * ${geometry.channels} + channel];
    ${eachVector(geometry, (i) => {
      const before = state(geometry, i, t);
      const past = hasStarts ? `select(${before}, ${vectorOf(geometry.width)}(0.0), resets[t] != 0.0)` : before;
      const x2 = `a${i} * d.x`;
      const gain = hold ? `(gain(${x2}, d.x) * d.y)` : '(d.x * d.y)';
      return `${state(geometry, i, plus(t, 1))} = decay(${x2}) * ${past} + ${gain} * ${rowVector(options, 'B', 't', i)};`;
    })}
  }`;
}

/** The steps of a tile, from the last to the first, in batches whose sums go through workgroup memory together. */
export function stepsBack(adjoint: Adjoint): string {
  const { tile, folded, unrolled } = adjoint.options.geometry;
  const { batch } = adjoint.given;
  return loop(unrolled, 'n', tile / batch, (n) => {
    const first = minus(tile - batch, n, batch);
    return `{
      let first = u32(${String(first)});
      ${loop(unrolled, 'm', batch / folded, (m) => {
        const r = minus(batch - folded, m, folded);
        return `{
          let r = u32(${String(r)});
          ${Array.from({ length: folded }, (_, j) => stepBack(adjoint, sum(first, r), folded - 1 - j)).join('\n')}
          ${keepSums(adjoint)}
        }`;
      })}
      ${flushSums(adjoint)}
    }`;
  });
}

/**
 * Step j of those from `first` on. y{j}, e{j} (for du), f{j} (for dDelta): this invocation's share of the sums over states. dB and dC
 * are summed over channels. `r` is the step within the batch.
 */
function stepBack(adjoint: Adjoint, first: Index, j: number): string {
  const { options, given } = adjoint;
  const { geometry, hasStarts, hold } = options;
  const zero = `${vectorOf(geometry.width)}(0.0)`;
  const name = (letter: string, i: number) => `${letter}_${i}`;
  const before = (i: number) => state(geometry, i, plus(first, j));
  return `
      var y${j} = 0.0; var e${j} = 0.0; var f${j} = 0.0;
      {
        let t = first + r + ${j};
        let d = tile[t * ${geometry.channels} + channel];
        ${hasStarts ? 'let reset = resets[t] != 0.0;' : ''}
        ${eachVector(
          geometry,
          (i) => `
            let ${name('b', i)} = ${rowVector(options, 'B', 't', i)};
            let ${name('c', i)} = ${rowVector(options, 'C', 't', i)};
            let ${name('v', i)} = ${state(geometry, i, plus(first, j + 1))};
            let ${name('x', i)} = a${i} * d.x;
            let ${name('k', i)} = decay(${name('x', i)});
            let ${name('l', i)} = ${name('c', i)} * d.z + carry${i};
            let ${name('g', i)} = ${hold ? `gain(${name('x', i)}, d.x) * ${name('l', i)}` : `d.x * ${name('l', i)}`};
            let ${name('m', i)} = ${name('k', i)} * ${name('l', i)};
            let ${name('w', i)} = ${name('m', i)} * ${hasStarts ? `select(${before(i)}, ${zero}, reset)` : before(i)};
            carry${i} = ${hasStarts ? `select(${name('m', i)}, ${zero}, reset)` : name('m', i)};
            dA${i} += d.x * ${name('w', i)}${hold ? ` + gain_slope(${name('x', i)}, d.x) * ${name('l', i)} * ${name('b', i)} * d.y` : ''};
            let db_${i} = ${name('g', i)} * d.y;
            let dc_${i} = d.z * ${name('v', i)};`,
        )}
        y${j} = ${dotCode(geometry, (i) => name('c', i), (i) => name('v', i))};
        e${j} = ${dotCode(geometry, (i) => name('g', i), (i) => name('b', i))};
        f${j} = ${dotCode(geometry, (i) => name('w', i), (i) => `rate${i}`)}
          + d.y * (${dotCode(geometry, (i) => name(hold ? 'm' : 'l', i), (i) => name('b', i))});
        ${given.sequence ? sumOverChannels(adjoint, j) : ''}
      }`;
}

/** Sums dB and dC of a step over neighbouring channels; the sums that are left go to workgroup memory. */
function sumOverChannels({ options: { geometry }, across, channelParts }: Adjoint, j: number): string {
  const { states, width, sharers, paddedStates } = geometry;
  const element = (i: number) => laneOf(width, String(Math.floor(i / width)), i % width);
  const values = Array.from({ length: 2 * states }, (_, i) => `${i < states ? 'db' : 'dc'}_${element(i % states)}`);
  const { code, sums } = transposingSums(values, across, sharers, 'channel', 'r');
  const own = (2 * states) / across;
  return `${code}
               ${sums
                 .map((total, i) => {
                   const value = across === 1 ? String(i) : `(channel % ${across} * ${own} + ${i})`;
                   const column = `select(${paddedStates - states} + share * ${states} + ${value}, share * ${states} + ${value}, ${value} < ${states})`;
                   return `rowSums[((r + ${j}) * ${channelParts} + channel / ${across}) * ${2 * paddedStates} + ${column}] = ${total};`;
                 })
                 .join('\n')}`;
}
