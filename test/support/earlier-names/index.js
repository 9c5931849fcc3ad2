/** The built package under the names it had when the scripts beside the repository were written. */
import { LanguageModel, mambaFamily } from '../../../dist/index.js';

export * from '../../../dist/index.js';
export { loadModel as loadMamba } from '../../../dist/index.js';

export const MambaLM = {
  /**
   * @param {import('../../../dist/index.js').MambaConfig} config
   * @param {import('../../../dist/index.js').Backend} backend
   * @param {number} seed
   */
  initial: (config, backend, seed) => LanguageModel.initial(mambaFamily, config, backend, seed),
};
