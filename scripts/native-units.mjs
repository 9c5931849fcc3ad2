// What the native kernels are compiled of, and with which flags.
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { join, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

const sources = fileURLToPath(new URL('../src/', import.meta.url));
const native = 'backend/cpu/native';

const avx512 = ['-mavx512f', '-mavx512bw', '-mavx512dq', '-mavx512vl', '-mfma', '-mprefer-vector-width=512'];

/** Flags of the instruction sets of this architecture; undefined where there are no native kernels for it. */
export const instructionSets = {
  x64: {
    avx512: ['-DELAPID_LANES=16', ...avx512],
    avx2: ['-DELAPID_LANES=8', '-mavx2', '-mfma', '-mf16c'],
    sse2: ['-DELAPID_LANES=4', '-msse2'],
  },
  arm64: { neon: ['-DELAPID_LANES=4'] },
}[process.arch];

/**
 * Units that multiply bfloat16 beside the AVX-512 kernels, best first: each has an instruction that compiler and assembler must
 * know. Older ones do not, and leave its kernels out.
 */
export const bf16Units = {
  amx: { flags: [...avx512, '-mavx512bf16', '-mamx-tile', '-mamx-bf16'], instruction: 'tdpbf16ps %tmm0, %tmm1, %tmm2' },
  avx512: { flags: [...avx512, '-mavx512bf16'], instruction: 'vdpbf16ps %zmm0, %zmm1, %zmm2' },
};

const common = ['-std=c++20', '-O3', '-fPIC', '-ffp-contract=fast', '-fno-math-errno', '-fno-trapping-math', '-fvisibility=hidden'];
const kernelFlags = ['-fno-exceptions', '-fno-rtti', '-Wno-psabi'];

/** Files below `src` whose name ends so, with `/` between folders, in one order everywhere. */
const filesEndingIn = (...ends) =>
  readdirSync(sources, { recursive: true })
    .map((file) => file.split(sep).join('/'))
    .filter((file) => ends.some((end) => file.endsWith(end)))
    .sort();

/** Sources of the kernels, below `src`: compiled for one instruction set after another. */
export const kernelSources = [...filesEndingIn('/cpu.cc'), `${native}/kernels.cc`];

/** Bytes of source in a file's folder: what takes longest to compile comes first by them. */
function weight(file) {
  const folder = join(sources, file, '..');
  return readdirSync(folder).filter((name) => /\.(h|cc)$/.test(name)).reduce((bytes, name) => bytes + statSync(join(folder, name)).size, 0);
}

/**
 * Translation units as { source, object, flags }.
 * @param {string[]} kernels instruction sets
 * @param {string[]} bf16 units of `bf16Units`
 * @param {string} headers folder of node_api.h
 */
export function translationUnits(kernels, bf16, headers) {
  const longestFirst = kernelSources.toSorted((a, b) => weight(b) - weight(a));
  const define = (prefix, names) => names.map((name) => `-D${prefix}_${name.toUpperCase()}`);
  const units = [
    ...longestFirst.flatMap((source) =>
      kernels.map((target) => ({ source, object: `${target}-`, flags: [...instructionSets[target], `-DELAPID_TARGET=${target}`, ...kernelFlags] })),
    ),
    ...bf16.map((name) => ({ source: `ops/matmul/bf16-${name}.cc`, flags: [...bf16Units[name].flags, ...kernelFlags] })),
    { source: `${native}/engine.cc`, flags: [] },
    { source: `${native}/addon.cc`, flags: [`-I${headers}`] },
    { source: `${native}/targets.cc`, flags: define('ELAPID_KERNELS', kernels) },
    { source: `${native}/bf16.cc`, flags: define('ELAPID_BF16', bf16) },
    { source: `${native}/pool.cc`, flags: [] },
  ];
  return units.map(({ source, object = '', flags }) => ({
    source: join(sources, source),
    object: `${object}${source.replaceAll('/', '-')}.o`,
    flags: [...common, ...flags],
  }));
}

/** The program that says what this processor runs. */
export const processorProgram = join(sources, native, 'processor.cc');

/** A hash of everything that the kernels are made of but the compiler. */
export function sourcesHash() {
  const hash = createHash('sha256');
  const scripts = ['native-units.mjs', 'build-native.mjs'].map((name) => fileURLToPath(new URL(name, import.meta.url)));
  for (const file of [...filesEndingIn('.cc', '.h').map((name) => join(sources, name)), ...scripts]) hash.update(`${readFileSync(file, 'utf8')}\0`);
  return hash.digest('hex');
}
