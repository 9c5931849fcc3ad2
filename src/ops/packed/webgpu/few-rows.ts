/** Products of few rows with a packed weight: each line of it is read once, in order. */
import { fold, panelRows, unitDepth, type GpuDispatch, type PackedDType } from '../../../tensor/index.js';
import type { Factor } from '../../../wgsl/product/factor.js';
import { range } from '../../../wgsl/product/product.js';
import { storeResult, type Result } from '../../../wgsl/product/result.js';
import { u } from '../../../wgsl/vectors.js';
import { headWords, perWord, unitWords } from './layout.js';

const threads = 128;
/** Threads of a line, four outputs each, and lines that a workgroup reads at a time. */
const quads = panelRows / 4;
const lines = threads / quads;

/**
 * A workgroup makes a panel's 16 outputs of up to 8 rows. It asks for all its lines of a part of the depth, then puts that part of
 * the rows into workgroup memory, where its threads share it.
 */
export function fewRowsPacked(dtype: PackedDType, options: { m: number; n: number; k: number; a: Factor; result: Result }): GpuDispatch {
  const { m, n, a, result } = options;
  const rows = m === 1 ? 1 : m === 2 ? 2 : m <= 4 ? 4 : 8;
  const store = storeResult(result);
  const rowBlocks = Math.ceil(m / rows);
  const panels = Math.ceil(n / panelRows);
  return {
    variant: `few ${rows} ${a.variant} ${store.variant}`,
    buffers: [a.binding, { name: 'weight', as: 'vec4<u32>' }, ...store.buffers],
    workgroups: fold(rowBlocks * panels),
    numbers: { rowBlocks, panels },
    code: () => code(dtype, rows, a, store.code),
  };
}

/** WGSL: the weights of four outputs at input j of a line, as the bits of floats of which `offset` is to be taken away. */
const decode = {
  bf16: (j: number) => `bitcast<vec4<f32>>(${j === 0 ? 'words << vec4<u32>(16u)' : 'words & vec4<u32>(0xffff0000u)'})`,
  // An integer in the last bits of 2²³ is a float without a conversion, of which GPUs do few at a time.
  int8: (j: number) => `(bitcast<vec4<f32>>(((words >> vec4<u32>(${8 * j}u)) & vec4<u32>(0xffu)) ^ vec4<u32>(0x4b000080u)) - 8388736.0)`,
  int4: (j: number) => `cubic(bitcast<vec4<f32>>(((words >> vec4<u32>(${4 * j}u)) & vec4<u32>(0xfu)) ^ vec4<u32>(0x4b000008u)) - 8388616.0)`,
};

function code(dtype: PackedDType, rows: number, a: Factor, store: string): string {
  const inputs = perWord[dtype];
  const depth = rows > 4 ? 512 : 1024;
  const turns = depth / inputs / lines;
  const linesPerUnit = unitDepth[dtype] / inputs;
  const scaled = dtype !== 'bf16';
  const vectors = depth / 4;
  const x = (i: number, j: number) => {
    const at = `shared_rows[${u(i * vectors)} + line_in_part * ${u(inputs)} / 4u${inputs === 8 && j >= 4 ? ' + 1u' : ''}]`;
    return inputs === 2 ? `${at}[line_in_part % 2u * 2u + ${u(j)}]` : `${at}.${'xyzw'[j % 4] ?? 'x'}`;
  };
  return `
  ${a.four} ${store}
  var<workgroup> shared_rows: array<vec4<f32>, ${rows * vectors}>;
  var<workgroup> parts: array<vec4<f32>, ${rows * threads}>;
  ${dtype === 'int4' ? 'fn cubic(c: vec4<f32>) -> vec4<f32> { return c * (c * c + 160.0); }' : ''}
  @compute @workgroup_size(${threads})
  fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>,
          @builtin(local_invocation_index) thread: u32) {
    let flat = flat_workgroup(workgroup, workgroups);
    if (flat >= p.rowBlocks * p.panels) { return; }
    let first_row = flat % p.rowBlocks * ${u(rows)};
    let panel = flat / p.rowBlocks;
    let quad = thread % ${u(quads)};
    let units = (p.k + ${u(unitDepth[dtype] - 1)}) / ${u(unitDepth[dtype])};
    let lines = units * ${u(linesPerUnit)};
    let panel_at = p.weight_at + panel * units * ${u(unitWords(dtype) / 4)};
    ${range(rows).map((i) => `var sum_${i} = vec4<f32>();`).join(' ')}
    for (var begin = 0u; begin < p.k; begin += ${u(depth)}) {
      ${range(turns)
        .map((turn) => {
          const [t, line] = [String(turn), `line_${turn}`];
          const unit = `panel_at + ${line} / ${u(linesPerUnit)} * ${u(unitWords(dtype) / 4)}`;
          const block = `${line} % ${u(linesPerUnit)} / ${u(linesPerUnit / 2)}`;
          return `
      let ${line} = begin / ${u(inputs)} + thread / ${u(quads)} + ${u(turn * lines)};
      var words_${t} = vec4<u32>();
      ${scaled ? `var scales_${t} = vec4<u32>();` : ''}
      if (${line} < lines) {
        words_${t} = weight[${unit} + ${u(headWords(dtype) / 4)} + ${line} % ${u(linesPerUnit)} * ${u(quads)} + quad];
        ${scaled ? `scales_${t} = weight[${unit} + ${block} * ${u(panelRows / 8)} + quad / 2u];` : ''}
      }`;
        })
        .join('')}
      for (var i = thread; i < ${u(rows * vectors)}; i += ${u(threads)}) {
        shared_rows[i] = a_four(0u, first_row + i / ${u(vectors)}, begin + i % ${u(vectors)} * 4u);
      }
      workgroupBarrier();
      ${range(turns)
        .map((turn) => {
          const t = String(turn);
          return `
      {
        let line_in_part = thread / ${u(quads)} + ${u(turn * lines)};
        let words = words_${t};
        ${range(inputs).map((j) => `let weights_${j} = ${decode[dtype](j)};`).join('\n        ')}
        ${
          scaled
            ? `let pairs = select(scales_${t}.xy, scales_${t}.zw, quad % 2u == 1u);
        let scale = bitcast<vec4<f32>>(vec4<u32>(pairs.x << 16u, pairs.x & 0xffff0000u, pairs.y << 16u, pairs.y & 0xffff0000u));`
            : ''
        }
        ${range(rows)
          .map((i) => {
            const terms = range(inputs).map((j) => `weights_${j} * ${x(i, j)}`);
            return `sum_${i} += ${scaled ? `scale * (${terms.join(' + ')})` : terms.join(' + ')};`;
          })
          .join('\n        ')}
      }`;
        })
        .join('')}
      workgroupBarrier();
    }
    ${range(rows).map((i) => `parts[${u(i * threads)} + thread] = sum_${i};`).join(' ')}
    workgroupBarrier();
    if (thread < ${u(rows * quads)}) {
      let at = thread / ${u(quads)} * ${u(threads)} + quad;
      var total = parts[at];
      for (var line = 1u; line < ${u(lines)}; line++) { total += parts[at + line * ${u(quads)}]; }
      store(0u, 0u, first_row + thread / ${u(quads)}, panel * ${u(panelRows)} + quad * 4u, total);
    }
  }`;
}
