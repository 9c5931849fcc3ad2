/** WGSL for softmax's normaliser of a row, and for rows as wide as a vocabulary. */
import type { DType } from '../tensor/index.js';
import { across, type Reduction } from './rows.js';
import { vectorOf } from './vectors.js';

/**
 * The largest number m of a row and Σ e^(x − m), in one pass: (m, Σ) of two parts. m starts at the lowest finite number, so
 * that −∞ adds nothing and no difference is ∞ − ∞.
 */
export const normaliser: Reduction = { name: 'normaliser', type: 'vec2<f32>', combine: 'joined(a, b)' };
export const normaliserStart = 'vec2<f32>(-3.4028234e38, 0.0)';
const largestLane = (value: string, lanes: number) =>
  lanes === 1 ? value : `max(max(${value}.x, ${value}.y), max(${value}.z, ${value}.w))`;

/** WGSL of `joined`, and of `with_item(normaliser, item)`, which takes in the numbers of one item. */
export const normaliserCode = (lanes: number): string => `
  fn joined(a: vec2<f32>, b: vec2<f32>) -> vec2<f32> {
    let largest = max(a.x, b.x);
    return vec2<f32>(largest, a.y * exp(a.x - largest) + b.y * exp(b.x - largest));
  }
  fn with_item(a: vec2<f32>, item: ${vectorOf(lanes)}) -> vec2<f32> {
    let largest = max(a.x, ${largestLane('item', lanes)});
    let powers = exp(item - largest);
    return vec2<f32>(largest, a.y * exp(a.x - largest) + ${across('powers', lanes)});
  }`;

/**
 * Items of a row of logits that an invocation holds, so that the second pass need not read them: a vocabulary of 50,280. Rows in
 * half precision, of which those at work fit a cache, are faster when read twice by more invocations (H100: 112 µs against 133
 * for [1024, 50280] in place; in f32 184 against 250).
 */
export const wideRowHold = (dtype: DType | undefined): number => (dtype === 'f16' ? 8 : 16);
