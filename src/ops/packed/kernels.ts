import {
  defineKernel,
  input,
  optionalInput,
  optionalOutput,
  output,
  packedSizeBytes,
  panelRows,
  type PackedDType,
} from '../../tensor/index.js';
import { rounding } from '../matmul/rounding.js';
import { packedValue, packReference } from './layout.js';
import { embeddingGpu, linearGpu, packGpu, unpackGpu } from './webgpu/index.js';

/** Bytes of a row of a packed weight: a panel's, shared out. */
const rowBytes = (dtype: PackedDType, columns: number) => packedSizeBytes(dtype, panelRows, columns) / panelRows;
const panelsOf = <B extends string>(buffer: B) => ({ blocks: { of: panelRows, buffers: [buffer] } });

/** packed = weight [rows, columns], rows `weightPitch` apart; every byte of it, padding included, follows from the weight. */
const pack = <D extends PackedDType>(dtype: D) =>
  defineKernel(`pack_${dtype}`, {
    buffers: { weight: input.f32, packed: output[dtype] },
    parameters: { rows: 'int', columns: 'int', weightPitch: 'int' },
    divisions: ({ columns, weightPitch }) => [
      { along: 'rows', ...panelsOf('packed'), strides: { weight: weightPitch, packed: rowBytes(dtype, columns) } },
    ],
    webgpu: packGpu(dtype),
    reference({ weight, packed }, { rows, columns, weightPitch }) {
      packReference(dtype, (row, column) => weight[row * weightPitch + column] ?? NaN, rows, columns, packed as Uint8Array);
    },
  });

/** weight[r, c] = what the packed weight says. */
const unpack = <D extends PackedDType>(dtype: D) =>
  defineKernel(`unpack_${dtype}`, {
    buffers: { packed: input[dtype], weight: output.f32 },
    parameters: { rows: 'int', columns: 'int' },
    divisions: ({ columns }) => [
      { along: 'rows', ...panelsOf('packed'), strides: { packed: rowBytes(dtype, columns), weight: columns } },
    ],
    webgpu: unpackGpu(dtype),
    reference({ packed, weight }, { rows, columns }) {
      for (let i = 0; i < rows * columns; i++) {
        weight[i] = packedValue(dtype, packed as Uint8Array, columns, Math.floor(i / columns), i % columns);
      }
    },
  });

/**
 * c[m, n] = Σₖ a[m, k]·weight[n, k] + bias[n]. With `bf16` or `half`, both factors are rounded to bfloat16 or half precision
 * first; with `bf16` an integer format needs `space` for `chunk` outputs at a time in that format.
 */
const linear = <D extends PackedDType>(dtype: D) =>
  defineKernel(`linear_${dtype}`, {
    buffers: { a: input.float, weight: input[dtype], bias: optionalInput.f32, space: optionalOutput.bf16, c: output.float },
    parameters: { m: 'int', n: 'int', k: 'int', lda: 'int', ldc: 'int', bf16: 'flag', half: 'flag', chunk: 'int' },
    divisions: ({ k, lda, ldc }) => [
      { along: 'm', strides: { a: lda, c: ldc } },
      { along: 'n', ...panelsOf('weight'), strides: { weight: rowBytes(dtype, k), bias: 1, c: 1 } },
    ],
    webgpu: linearGpu(dtype),
    streams: 'weight',
    operations: (p) => 2 * p.m * p.n * p.k,
    reference({ a, weight, bias, c }, { m, n, k, lda, ldc, ...flags }) {
      const rounded = rounding(flags);
      for (let column = 0; column < n; column++) {
        const row = Array.from({ length: k }, (_, i) => rounded(packedValue(dtype, weight as Uint8Array, k, column, i)));
        for (let i = 0; i < m; i++) {
          c[i * ldc + column] = row.reduce((sum, value, j) => sum + value * rounded(a[i * lda + j] ?? NaN), bias?.[column] ?? 0);
        }
      }
    },
  });

/** `embedding` of a packed table. */
const embedding = <D extends PackedDType>(dtype: D) =>
  defineKernel(`embedding_${dtype}`, {
    buffers: { ids: input.i32, weight: input[dtype], y: output.float },
    parameters: { tokens: 'int', vocabulary: 'int', columns: 'int' },
    // The table is never divided: the GPU's kernel binds it in parts.
    divisions: ({ columns }) => [{ along: 'tokens', strides: { ids: 1, y: columns } }],
    webgpu: embeddingGpu(dtype),
    touched: ({ tokens, vocabulary, columns }) => ({ weight: Math.min(tokens, vocabulary) * columns * { bf16: 2, int8: 1, int4: 0.5 }[dtype] }),
    reference({ ids, weight, y }, { tokens, vocabulary, columns }) {
      for (let t = 0; t < tokens; t++) {
        const id = ids[t] ?? -1;
        const known = id >= 0 && id < vocabulary;
        for (let c = 0; c < columns; c++) {
          y[t * columns + c] = known ? packedValue(dtype, weight as Uint8Array, columns, id, c) : NaN;
        }
      }
    },
  });

export const packBf16 = pack('bf16');
export const packInt8 = pack('int8');
export const packInt4 = pack('int4');
export const unpackBf16 = unpack('bf16');
export const unpackInt8 = unpack('int8');
export const unpackInt4 = unpack('int4');
export const linearBf16 = linear('bf16');
export const linearInt8 = linear('int8');
export const linearInt4 = linear('int4');
export const embeddingBf16 = embedding('bf16');
export const embeddingInt8 = embedding('int8');
export const embeddingInt4 = embedding('int4');
