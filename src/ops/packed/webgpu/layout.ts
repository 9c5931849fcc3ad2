/** WGSL that reads the layout of packed weights; README.md describes it. */
import { blockDepth, panelRows, unitBytes, unitDepth, type PackedDType } from '../../../tensor/index.js';

/** Inputs of an output that a word holds. */
export const perWord: Readonly<Record<PackedDType, number>> = { bf16: 2, int8: 4, int4: 8 };

/** Words of a unit, and those before its codes. */
export const unitWords = (dtype: PackedDType): number => unitBytes[dtype] / 4;
export const headWords = (dtype: PackedDType): number => (dtype === 'bf16' ? 0 : 16);

/**
 * `packed_word(row, column)`: the index of the word that holds a weight's code, `packed_scale(row, column)`: its scale, and
 * `packed_values(word, shift) -> vec2<f32> or vec4<f32>`: 2 (bf16) or 4 weights from bit `shift` of a word on, not scaled.
 * @param columns WGSL expression of the weight's columns
 */
export function packedFunctions(dtype: PackedDType, columns: string): string {
  const [rows, depth, words] = [String(panelRows), String(unitDepth[dtype]), String(unitWords(dtype))];
  const unit = `(row / ${rows}u * ((${columns} + ${unitDepth[dtype] - 1}u) / ${depth}u) + column / ${depth}u) * ${words}u`;
  const word = `
  fn packed_word(row: u32, column: u32) -> u32 {
    return p.weight_at + ${unit} + ${headWords(dtype)}u + column % ${depth}u / ${perWord[dtype]}u * ${rows}u + row % ${rows}u;
  }`;
  if (dtype === 'bf16') {
    return `${word}
  fn packed_values(word: u32) -> vec2<f32> { return vec2<f32>(bitcast<f32>(word << 16u), bitcast<f32>(word & 0xffff0000u)); }`;
  }
  const bits = 32 / perWord[dtype];
  const shifts = [0, 1, 2, 3].map((i) => `${32 - bits * (i + 1)}u`).join(', ');
  return `${word}
  fn packed_scale(row: u32, column: u32) -> f32 {
    let pair = weight[p.weight_at + ${unit} + column % ${depth}u / ${blockDepth}u * ${panelRows / 2}u + row % ${rows}u / 2u];
    return bitcast<f32>(select(pair << 16u, pair & 0xffff0000u, row % 2u == 1u));
  }
  fn packed_values(word: u32) -> vec4<f32> {
    let codes = (vec4<i32>(bitcast<i32>(word)) << vec4<u32>(${shifts})) >> vec4<u32>(${32 - bits}u);
    return vec4<f32>(${dtype === 'int4' ? 'codes * (codes * codes + 160)' : 'codes'});
  }`;
}

/** `packed_four(row, column) -> vec4<f32>`: four weights of an output, from a multiple of 4 on. */
export function packedFour(dtype: PackedDType, columns: string): string {
  const values = {
    bf16: `vec4<f32>(packed_values(weight[word]), packed_values(weight[word + ${panelRows}u]))`,
    int8: 'packed_values(weight[word]) * packed_scale(row, column)',
    int4: 'packed_values(weight[word] >> (column % 8u * 4u)) * packed_scale(row, column)',
  }[dtype];
  return `${packedFunctions(dtype, columns)}
  fn packed_four(row: u32, column: u32) -> vec4<f32> { let word = packed_word(row, column); return ${values}; }`;
}
