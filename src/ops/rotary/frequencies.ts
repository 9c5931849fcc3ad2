/**
 * Turns of a position, exact for any position: a position is written in digits of base 64, and for each digit's place there is
 * the turn of one unit of it. An angle in float32, position · frequency, would be off by 10⁻³ radians at position 10⁴.
 */

/** Positions are below digitBase^levels = 2²⁴. */
export const digitBase = 64;
export const levels = 4;

/** How far a position may be. */
export const mostPositions = digitBase ** levels;

/**
 * The table that `rotary` takes: for each digit's place, the fraction of a turn that one unit makes, in [−½, ½], cut into a part
 * of few bits, whose product with a digit float32 holds exactly, and the rest.
 * @param frequencies radians a position, of each pair
 * @returns [levels, 2, pairs]
 */
export function frequencyTable(frequencies: readonly number[]): Float32Array {
  const table = new Float32Array(levels * 2 * frequencies.length);
  for (let level = 0; level < levels; level++) {
    for (const [i, frequency] of frequencies.entries()) {
      const turns = unitTurns(frequency, digitBase ** level);
      const coarse = Math.round(turns * 4096) / 4096;
      const at = 2 * level * frequencies.length + i;
      table[at] = coarse;
      table[at + frequencies.length] = turns - coarse;
    }
  }
  return table;
}

/** The turn of a position, of pair i, in [−½, ½] or a little beyond. @param table [levels, 2, pairs] */
export function turnAt(table: ArrayLike<number>, pairs: number, i: number, position: number): number {
  let turn = 0;
  let rest = position;
  for (let level = 0; level < levels; level++) {
    const digit = rest % digitBase;
    rest = Math.floor(rest / digitBase);
    const at = 2 * level * pairs + i;
    turn += fraction(digit * (table[at] ?? NaN)) + digit * (table[at + pairs] ?? NaN);
  }
  return fraction(turn);
}

const fraction = (turns: number): number => turns - Math.round(turns);

/** The fraction of a turn that `positions` positions make. Whole turns are taken off before they cost digits. */
function unitTurns(frequency: number, positions: number): number {
  const one = frequency / (2 * Math.PI);
  // A power of two times a double is exact.
  return fraction(one * positions);
}
