/** Packing on a GPU: the same bytes as everywhere, whatever its divisions are like. */
import { fold, panelRows, unitDepth, blockDepth, type GpuKernel, type PackedDType } from '../../../tensor/index.js';
import { headWords, perWord, unitWords } from './layout.js';

const threads = 64;

/** A thread packs one block of two neighbouring outputs, whose scales share a word. */
export const packGpu =
  (dtype: PackedDType): GpuKernel<'weight' | 'packed', 'rows' | 'columns' | 'weightPitch'> =>
  ({ parameters: { rows, columns } }) => {
    const blocks = (Math.ceil(columns / unitDepth[dtype]) * unitDepth[dtype]) / blockDepth;
    const count = Math.ceil(rows / panelRows) * blocks * (panelRows / 2);
    return {
      dispatches: [
        {
          variant: 'pack',
          buffers: ['weight', 'packed'],
          workgroups: count === 0 ? [0] : fold(Math.ceil(count / threads)),
          numbers: { blocks, count },
          code: () => packCode(dtype),
        },
      ],
    };
  };

function packCode(dtype: PackedDType): string {
  const blocksPerUnit = unitDepth[dtype] / blockDepth;
  const wordsPerBlock = blockDepth / perWord[dtype];
  return `
  ${toBf16} ${dtype === 'bf16' ? bf16Block : quantizing(dtype)}
  var<private> weights: array<f32, ${blockDepth}>;
  var<private> codes: array<u32, ${blockDepth}>;
  @compute @workgroup_size(${threads})
  fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>,
          @builtin(local_invocation_index) thread: u32) {
    let i = flat_workgroup(id, workgroups) * ${threads}u + thread;
    if (i >= p.count) { return; }
    let pair = i % ${panelRows / 2}u;
    let block = i / ${panelRows / 2}u % p.blocks;
    let panel = i / ${panelRows / 2}u / p.blocks;
    let unit = p.packed_at + (panel * (p.blocks / ${blocksPerUnit}u) + block / ${blocksPerUnit}u) * ${unitWords(dtype)}u;
    let in_unit = block % ${blocksPerUnit}u;
    var scales = 0u;
    for (var half = 0u; half < 2u; half++) {
      let lane = 2u * pair + half;
      let row = panel * ${panelRows}u + lane;
      let first = block * ${blockDepth}u;
      for (var j = 0u; j < ${blockDepth}u; j++) {
        weights[j] = 0.0;
        if (row < p.rows && first + j < p.columns) { weights[j] = weight[p.weight_at + row * p.weightPitch + first + j]; }
      }
      scales |= pack_block() << (16u * half);
      for (var w = 0u; w < ${wordsPerBlock}u; w++) {
        var word = 0u;
        for (var j = 0u; j < ${perWord[dtype]}u; j++) { word |= codes[w * ${perWord[dtype]}u + j] << (${32 / perWord[dtype]}u * j); }
        packed[unit + ${headWords(dtype)}u + (in_unit * ${wordsPerBlock}u + w) * ${panelRows}u + lane] = word;
      }
    }
    ${dtype === 'bf16' ? '' : `packed[unit + in_unit * ${panelRows / 2}u + pair] = scales;`}
  }`;
}

const toBf16 = `
  fn to_bf16(value: f32) -> u32 {
    let bits = bitcast<u32>(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) { return (bits >> 16u) | 0x40u; }
    return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
  }`;

const bf16Block = `
  fn pack_block() -> u32 {
    for (var j = 0u; j < ${blockDepth}u; j++) { codes[j] = to_bf16(weights[j]); }
    return 0u;
  }`;

/** `quantizeBlock` of layout.ts. Magnitudes are compared as bits, which NaN and infinity stand above. */
const quantizing = (dtype: 'int8' | 'int4'): string => `
  // The float32 nearest to |a| / |b|, for normal a and b; zero where that is below 2⁻²⁰. GPUs' own divisions may be off by
  // some last digits: here the remainder of the mantissas' quotient tells, exactly though only its low 32 bits are kept.
  fn quotient(a: f32, b: f32) -> f32 {
    let bits = vec2<u32>(bitcast<u32>(a), bitcast<u32>(b)) & vec2<u32>(0x7fffffffu);
    let exponents = vec2<i32>(bits >> vec2<u32>(23u));
    let mantissas = (bits & vec2<u32>(0x7fffffu)) | vec2<u32>(0x800000u);
    let shift = select(24u, 23u, mantissas.x >= mantissas.y);
    let exponent = exponents.x - exponents.y - i32(shift);
    if (exponents.x == 0 || exponents.x - exponents.y < -20) { return 0.0; }
    var whole = u32(f32(mantissas.x) / f32(mantissas.y) * f32(1u << shift));
    var rest = bitcast<i32>((mantissas.x << shift) - whole * mantissas.y);
    for (; rest < 0; rest += i32(mantissas.y)) { whole -= 1u; }
    for (; rest >= i32(mantissas.y); rest -= i32(mantissas.y)) { whole += 1u; }
    let twice = 2u * u32(rest);
    if (twice > mantissas.y || (twice == mantissas.y && whole % 2u == 1u)) { whole += 1u; }
    return f32(whole) * bitcast<f32>(u32(exponent + 127) << 23u);
  }
  fn signed_quotient(a: f32, b: f32) -> f32 {
    let q = quotient(a, b);
    return select(q, -q, ((bitcast<u32>(a) ^ bitcast<u32>(b)) >> 31u) == 1u);
  }
  ${dtype === 'int8' ? int8Block : int4Block}
  fn pack_block() -> u32 {
    var largest = 0.0;
    for (var j = 0u; j < ${blockDepth}u; j++) {
      if ((bitcast<u32>(weights[j]) & 0x7fffffffu) > (bitcast<u32>(largest) & 0x7fffffffu)) { largest = weights[j]; }
      codes[j] = 0u;
    }
    let magnitude = bitcast<u32>(largest) & 0x7fffffffu;
    if (magnitude >= 0x7f800000u) { return 0x7fc0u; }
    if (magnitude < ${(127 - 90) << 23}u) { return 0u; }
    let scale = to_bf16(scale_of(largest));
    let step = bitcast<f32>(scale << 16u);
    for (var j = 0u; j < ${blockDepth}u; j++) { codes[j] = code_of(signed_quotient(weights[j], step)); }
    return scale;
  }`;

const int8Block = `
  fn scale_of(largest: f32) -> f32 { return abs(largest) * ${Math.fround(1 / 127)}f; }
  fn code_of(value: f32) -> u32 { return bitcast<u32>(i32(round(value))) & 0xffu; }`;

const int4Block = `
  fn int4_value(code: i32) -> i32 { return code * (160 + code * code); }
  // The scale with the least squared error, the first of equals; weights and levels in 2048ths of the largest weight.
  fn scale_of(largest: f32) -> f32 {
    var whole: array<i32, ${blockDepth}>;
    for (var j = 0u; j < ${blockDepth}u; j++) { whole[j] = i32(round(signed_quotient(weights[j], -largest) * 2048.0)); }
    var best = 0x7fffffff;
    var chosen = 0;
    for (var i = 0; i < 16; i++) {
      var levels: array<i32, 16>;
      for (var code = 0; code < 16; code++) {
        // int4_value · (26 + i) / 28, to the nearest, ties to even; made positive for the division.
        let shifted = int4_value(code - 8) * (26 + i) + 14 + 28 * 4096;
        let nearest = shifted / 28;
        levels[code] = nearest - select(0, 1, shifted % 28 == 0 && nearest % 2 == 1) - 4096;
      }
      var error = 0;
      for (var j = 0u; j < ${blockDepth}u; j++) {
        var least = 0x7fffffff;
        for (var code = 0; code < 16; code++) { let d = whole[j] - levels[code]; least = min(least, d * d); }
        error += least;
      }
      if (error < best) { best = error; chosen = i; }
    }
    // The scales tried, rounded to float32 once: WGSL's division might not be exact.
    var scales = array<f32, 16>(${Array.from({ length: 16 }, (_, i) => `${Math.fround((26 + i) / 57344)}f`).join(', ')});
    return -largest * scales[chosen];
  }
  // Codes' values are whole, the bounds between them whole or halves.
  fn code_of(value: f32) -> u32 {
    var code = -8;
    while (code < 7 && value > f32(int4_value(code) + int4_value(code + 1)) * 0.5) { code++; }
    return bitcast<u32>(code) & 0xfu;
  }`;
