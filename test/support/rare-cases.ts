/**
 * Operations' cases that every change can do without: other cases run the same kernels, and these take a software GPU ten seconds
 * each to compile, or a CPU seconds to compute. `npm run test:nightly` runs them all.
 */
const wide = /^block-step \/ \[B,D,E,K,R,N\] = \[(1,2056|2,776),/;

const compiledForLong = [
  /^attention \/ (?!q \[2,12,4,8\]|q \[2,3,2,8\])/,
  /^block-step \/ \[B,D,E,K,R,N\] = \[(1,2056|2,776|3,32|9,40),/,
  /^block-step \/ Mamba-2, (?!.*\[4,72,3,64,1,128,4\], two blocks, in parts)/,
  /^norm-linear \/ x \[20,1536\]/,
  /^fft \/ (?!convolution, B 1, L 5,|real numbers to their spectrum, L (8|13)$|spectrum to real numbers, L (1|2|8|13)$|complex numbers, L 17)/,
  /^experts \/ (?!n 24, E 5)/,
  /^routing \/ (?!n 24|n 50)/,
  /^solve \/ (?!.*\[3,12,17\]|one system)/,
  /^gated-norm \/ (?!x \[(2,3,32|7,100)\])/,
  /^cross-entropy \/ linear, (V (?!97, D 5\b)|no bias|length 65)/,
  /^matmul \/ (linear, (300|3|33|64|7|1000|15|17|264|75|512|16) rows|linear, (1 rows, 300|130 rows, 64)|matmul, (a batch of some size|a batch in vectors|one right factor))/,
  /^packed \/ (linear, \w+, ([3-7]|9|36) rows|linear, (bf16|int8), (8|16|17) rows|linear, (bf16|int4), 40 rows|linear, \w+, no bias|token losses)/,
  /^ssd \/ (?!documents: B 2, L 150|step, (plain|everything))/,
  /^selective-scan \/ (?!everything|reverse, documents: B 2, L 131|step)/,
];

/** Whether tests of the night run too. */
export const isNight = process.env['ELAPID_NIGHTLY'] === '1';

/** Whether a case, `folder / name`, is left to the night on a CPU. */
export const isRareOnCpu = (name: string): boolean => !isNight && wide.test(name);

/** Whether a case, `folder / name`, is left to the night on a software GPU. */
export const isRareOnGpu = (name: string): boolean => !isNight && compiledForLong.some((pattern) => pattern.test(name));
