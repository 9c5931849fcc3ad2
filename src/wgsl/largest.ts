/** WGSL to find the first largest number of a row. */
import type { Reduction } from './rows.js';

/** Numbers as integers in the same order, NaN above all; −0 is 0. */
export const orderedKey = `
  fn ordered_key(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) { return 0xffffffffu; }
    if ((bits & 0x7fffffffu) == 0u) { return 0x80000000u; }
    return select(bits | 0x80000000u, ~bits, bits >= 0x80000000u);
  }`;

/** The larger key, the first position of equal ones; (key, position). */
export const firstLargest: Reduction = {
  name: 'first_largest',
  type: 'vec2<u32>',
  combine: 'select(b, a, a.x > b.x || (a.x == b.x && a.y < b.y))',
};
