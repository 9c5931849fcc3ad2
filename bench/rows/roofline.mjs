// The machine by itself: what the limits of the other rows are made of.
import { probe } from '../lib/probe.mjs';
import { NotAvailable } from '../lib/row.mjs';

/**
 * @param {string} name
 * @param {string} what
 * @param {string} unit
 * @param {(threads: number) => string} request
 * @returns {import('../lib/row.mjs').Row}
 */
const rooflineRow = (name, what, unit, request) => ({
  name: `roofline-${name}`,
  what,
  unit,
  better: 'more',
  async prepare({ threads }) {
    const rate = async () => (await probe([request(threads)]))[0] ?? NaN;
    if (Number.isNaN(await rate())) throw new NotAvailable('this processor has no such unit');
    return { ours: rate, close: () => Promise.resolve() };
  },
});

export const rooflineRows = [
  rooflineRow('f32', 'f32 multiply-adds, in registers', 'GFLOP/s', (threads) => `fma:${threads}`),
  rooflineRow('bf16', 'bf16 products summed in f32: AMX, or else AVX-512', 'GFLOP/s', (threads) => `bf16:${threads}`),
  rooflineRow('int8', 'int8 products summed in int32: AMX, or else VNNI', 'GOP/s', (threads) => `int8:${threads}`),
  rooflineRow('exp', "the scan's exponential, from and to the first-level cache", 'Gexp/s', (threads) => `exp:${threads}`),
  rooflineRow('memory', 'reading 256 MiB', 'GB/s', (threads) => `read:${threads}:${2 ** 28}`),
  rooflineRow('memory-1-thread', 'reading 256 MiB, one thread', 'GB/s', () => `read:1:${2 ** 28}`),
  rooflineRow('cache', 'reading 16 MiB again and again (third-level cache on most machines)', 'GB/s', (threads) => `read:${threads}:${2 ** 24}`),
];
