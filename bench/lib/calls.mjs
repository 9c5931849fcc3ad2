// Timing calls of operations: as many a run as make up some milliseconds.
import { scope } from 'elapid';
import { openCpu } from './ours.mjs';
import { milliseconds } from './row.mjs';

/**
 * A measurement of one call, in `work` a microsecond: 10⁹ operations or bytes a second. `call` gets what `before` makes, which is not timed.
 * @template T
 * @param {{threads: number, kernels?: 'wasm'}} on
 * @param {number} work of a call: operations or bytes
 * @param {(backend: import('elapid').Backend) => {call: (prepared: T) => unknown, before?: () => T, dispose: () => void}} make
 * @returns {Promise<Pick<import('./row.mjs').Measurement, 'ours' | 'close'>>}
 */
export async function calls(on, work, make) {
  const backend = await openCpu(on);
  const { call, before, dispose } = make(backend);
  const time = async (/** @type {number} */ repeats) => {
    const prepared = Array.from({ length: repeats }, () => before?.());
    await backend.synchronize();
    return milliseconds(async () => {
      for (const one of prepared) scope(() => void call(/** @type {T} */ (one)));
      await backend.synchronize();
    });
  };
  // About 50 ms a run, by what warm calls take: the first ones are compiled and find no memory yet.
  const most = before ? 8 : 4000;
  let repeats = 1;
  for (let taken = await time(1); repeats < most && taken < 40; taken = await time(repeats)) {
    repeats = Math.min(most, Math.max(2 * repeats, Math.round((repeats * 50) / taken / 2)));
  }
  return {
    ours: async () => (work * repeats) / (await time(repeats)) / 1e6,
    async close() {
      dispose();
      await backend.close();
    },
  };
}
