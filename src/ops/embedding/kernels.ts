import { defineKernel, input, output } from '../../tensor/index.js';
import { embeddingBackwardGpu, embeddingGpu } from './webgpu.js';

/** y[t, c] = weight[ids[t], c]; a row of NaN for an id outside [0, vocabulary), whose memory is not touched. */
export const embedding = defineKernel('embedding', {
  buffers: { ids: input.i32, weight: input.float, y: output.float },
  parameters: { tokens: 'int', vocabulary: 'int', columns: 'int', weightPitch: 'int' },
  touched: ({ tokens, vocabulary, columns }) => ({ weight: Math.min(tokens, vocabulary) * columns }),
  // The table is never divided: the GPU's kernel binds it in parts.
  divisions: ({ columns }) => [{ along: 'tokens', strides: { ids: 1, y: columns } }],
  webgpu: embeddingGpu,
  reference({ ids, weight, y }, { tokens, vocabulary, columns, weightPitch }) {
    for (let t = 0; t < tokens; t++) {
      const id = ids[t] ?? -1;
      const known = id >= 0 && id < vocabulary;
      for (let c = 0; c < columns; c++) y[t * columns + c] = known ? (weight[id * weightPitch + c] ?? NaN) : NaN;
    }
  },
});

/**
 * dWeight[v, c] = Σ dy[t, c] over the t with ids[t] = v, added in the order of t; ids out of range add nothing. With
 * `accumulate` the sum is added to dWeight, of which then only the rows of `ids` are touched.
 */
export const embeddingBackward = defineKernel('embedding_backward', {
  buffers: { ids: input.i32, dy: input.float, dWeight: output.float },
  parameters: { tokens: 'int', vocabulary: 'int', columns: 'int', dyPitch: 'int', accumulate: 'flag' },
  operations: (p) => p.tokens * p.columns,
  divisions: ({ dyPitch }) => [{ along: 'tokens', strides: { ids: 1, dy: dyPitch }, second: () => ({ accumulate: 1 }) }],
  webgpu: embeddingBackwardGpu,
  reference({ ids, dy, dWeight }, { tokens, vocabulary, columns, dyPitch, accumulate }) {
    if (!accumulate) dWeight.fill(0, 0, vocabulary * columns);
    for (let t = 0; t < tokens; t++) {
      const id = ids[t] ?? -1;
      if (id < 0 || id >= vocabulary) continue;
      for (let c = 0; c < columns; c++) {
        dWeight[id * columns + c] = (dWeight[id * columns + c] ?? NaN) + (dy[t * dyPitch + c] ?? NaN);
      }
    }
  },
});
