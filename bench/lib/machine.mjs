// What the figures were measured on.
import { readFileSync } from 'node:fs';
import { availableParallelism, cpus, totalmem } from 'node:os';
import { openCpu } from './ours.mjs';

/** Instruction sets that the kernels, ours or the peers', choose by. */
const features = ['avx2', 'fma', 'avx512f', 'avx512_vnni', 'avx512_bf16', 'avx512_fp16', 'avx_vnni', 'amx_tile', 'amx_bf16', 'amx_int8'];

function processorFeatures() {
  try {
    const flags = new Set(/^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1]?.split(' '));
    return features.filter((name) => flags.has(name));
  } catch {
    return [];
  }
}

/** @param {number} threads that the rows run on, unless they say otherwise */
export async function describeMachine(threads) {
  const backend = await openCpu({ threads });
  const kernels = backend.description;
  await backend.close();
  return {
    processor: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    features: processorFeatures(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    system: `${process.platform} ${process.arch}`,
    node: process.version,
    kernels,
    date: new Date().toISOString().slice(0, 10),
  };
}
