/**
 * Operations' cases that every change can do without: other cases run the same kernels, and these take a software GPU ten seconds
 * each to compile, or a CPU seconds to compute. `npm run test:nightly` runs them all.
 */
const wide = /^block-step \/ \[B,D,E,K,R,N\] = \[(1,2056|2,776),/;

const compiledForLong = [
  wide,
  /^cross-entropy \/ linear, (V 1,|V 256,|V 97, D 1|no bias)/,
  /^matmul \/ (linear, (300|3|33|64|7|1000|15|17) rows|matmul, a batch of some size)/,
  /^packed \/ linear, (bf16|int8|int4), ([3-7]|36) rows(?!.*int4, 3 rows)/,
  /^packed \/ (token losses, (bf16|int8)|linear, (bf16|int8), no bias)/,
  /^selective-scan \/ (channels|every position|zero-order hold: |lengths: B 2, L 1,|states: B 1, L 4, E 17, N (1|8|16|64)\b|z: |initial state|through )/,
];

/** Whether tests of the night run too. */
export const isNight = process.env['ELAPID_NIGHTLY'] === '1';

/** Whether a case, `folder / name`, is left to the night on a CPU. */
export const isRareOnCpu = (name: string): boolean => !isNight && wide.test(name);

/** Whether a case, `folder / name`, is left to the night on a software GPU. */
export const isRareOnGpu = (name: string): boolean => !isNight && compiledForLong.some((pattern) => pattern.test(name));
