// A prompt of 2⁸ to 2²⁰ tokens: time grows with its length, memory does not.
import { mambaConfig, LanguageModel, mambaFamily } from 'elapid';
import { prefill } from 'elapid/generate';
import { openCpu } from '../lib/ours.mjs';
import { milliseconds, NotAvailable } from '../lib/row.mjs';

/** Small, so that a million tokens take seconds. */
const config = mambaConfig({ vocabularySize: 256, dModel: 64, layers: 2 });

/** @param {number} exponent @returns {import('../lib/row.mjs').Row} */
const lengthRow = (exponent) => ({
  name: `length-2^${exponent}`,
  what: `a prompt of ${2 ** exponent} tokens, d_model ${config.dModel}, ${config.layers} layers, f32`,
  unit: 'tok/s',
  better: 'more',
  runs: exponent < 18 ? 5 : 2,
  async prepare({ threads, quick }) {
    if (quick && exponent > 16) throw new NotAvailable('not run with --quick');
    const backend = await openCpu({ threads });
    const model = LanguageModel.initial(mambaFamily, config, backend, 1);
    const length = 2 ** exponent;
    const prompt = Int32Array.from({ length }, (_, i) => i % 251);
    let peakBytes = 0;
    return {
      async ours() {
        const state = model.newState(1);
        backend.resetStatistics();
        const ms = await milliseconds(() => prefill(model, prompt, state));
        ({ peakBytes } = backend.statistics());
        state.dispose();
        return (length / ms) * 1e3;
      },
      extra: () => ({ length, peakBytes }),
      async close() {
        model.dispose();
        await backend.close();
      },
    };
  },
});

export const lengthRows = [8, 10, 12, 14, 16, 18, 20].map(lengthRow);
