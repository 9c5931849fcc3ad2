import { mambaConfig, LanguageModel, mambaFamily } from '../../src/models/index.js';
import { sizeOf, tensor, type Backend } from '../../src/tensor/index.js';

/**
 * A model of bytes that says a text: after each byte of it the next one is by far the likeliest, and after the last the
 * first; bytes of `endOfText` end a text. The blocks add nothing to the residual stream, so the last byte alone decides, and no byte may come twice.
 */
export function modelThatSays(backend: Backend, text: string, endOfText: readonly number[] = []): LanguageModel {
  const bytes = new TextEncoder().encode(text);
  if (new Set(bytes).size !== bytes.length) throw new Error(`'${text}' has a byte twice`);
  const config = mambaConfig({ vocabularySize: 256, dModel: 256, layers: 1, dInner: 4, dState: 2, dtRank: 1, tiedHead: false, endOfText });
  return new LanguageModel(mambaFamily, config, backend, (key, { shape }) => {
    const values = new Float32Array(sizeOf(shape));
    if (key.endsWith('norm_f.weight')) values.fill(1);
    if (key.includes('embeddings')) for (let id = 0; id < 256; id++) values[id * 256 + id] = 1;
    if (key === 'lm_head.weight') bytes.forEach((byte, i) => (values[(bytes[(i + 1) % bytes.length] ?? 0) * 256 + byte] = 10));
    return tensor(backend, values, shape);
  });
}
