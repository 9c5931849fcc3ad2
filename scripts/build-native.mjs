// Builds the native kernels into build/elapid.node. It is the package's install script: without a C++ compiler it says so
// and succeeds, and the wasm kernels serve.
//
// The compiler is called directly rather than through node-gyp: Node-API needs nothing of Node but its headers (the
// package node-api-headers), so no Python, no make and no download are involved.
import { execFile } from 'node:child_process';
import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const root = fileURLToPath(new URL('../', import.meta.url));
const sources = join(root, 'src/backend/cpu/native');
const build = join(root, 'build');

const targets = {
  x64: {
    sse2: ['-DELAPID_LANES=4', '-msse2'],
    avx2: ['-DELAPID_LANES=8', '-mavx2', '-mfma'],
    avx512: ['-DELAPID_LANES=16', '-mavx512f', '-mavx512bw', '-mavx512dq', '-mavx512vl', '-mfma', '-mprefer-vector-width=512'],
  },
  arm64: { neon: ['-DELAPID_LANES=4'] },
}[process.arch];

// Kernels for units beside these instruction sets, chosen at run time, each with an instruction that compiler and assembler
// must know: older ones do not, and leave the kernels out.
const avx512Bf16 = [...(targets?.avx512 ?? []).slice(1), '-mavx512bf16'];
const units = {
  x64: {
    avx512: { flags: avx512Bf16, instruction: 'vdpbf16ps %zmm0, %zmm1, %zmm2' },
    amx: { flags: [...avx512Bf16, '-mamx-tile', '-mamx-bf16'], instruction: 'tdpbf16ps %tmm0, %tmm1, %tmm2' },
  },
}[process.arch];

const common = ['-std=c++20', '-O3', '-fPIC', '-ffp-contract=fast', '-fno-math-errno', '-fno-trapping-math', '-fvisibility=hidden'];
const kernelFlags = ['-fno-exceptions', '-fno-rtti', '-Wno-psabi'];

async function findCompiler() {
  for (const compiler of [process.env.CXX, 'c++', 'g++', 'clang++']) {
    if (!compiler) continue;
    try {
      await run(compiler, ['--version']);
      return compiler;
    } catch {
      // try the next
    }
  }
  return undefined;
}

/** The units of `units` that the compiler can build for. */
async function buildableUnits(compiler) {
  const found = [];
  for (const [name, { flags, instruction }] of Object.entries(units ?? {})) {
    const probe = join(build, `probe-${name}`);
    writeFileSync(`${probe}.cc`, `#include <immintrin.h>\nvoid probe() { asm volatile("${instruction}"); }\n`);
    try {
      await run(compiler, [...flags, '-c', `${probe}.cc`, '-o', `${probe}.o`]);
      found.push({ name, flags });
    } catch {
      console.log(`elapid: ${compiler} cannot build the bf16 kernels for ${name}; others serve.`);
    }
    rmSync(`${probe}.cc`);
    rmSync(`${probe}.o`, { force: true });
  }
  return found;
}

function noNative(reason) {
  rmSync(join(build, 'elapid.node'), { force: true });
  console.log(`elapid: ${reason}: no native kernels are built, the wasm kernels serve (slower; everything works).`);
}

async function main() {
  if (process.platform === 'win32' || targets === undefined) {
    return noNative(`native kernels are not supported on ${process.platform} ${process.arch}`);
  }
  const compiler = await findCompiler();
  if (compiler === undefined) return noNative('found no C++ compiler (c++, g++, clang++ or $CXX)');

  mkdirSync(build, { recursive: true });
  const { include_dir: headers } = createRequire(import.meta.url)('node-api-headers');
  const bf16 = await buildableUnits(compiler);
  const files = [
    ...Object.entries(targets).map(([target, flags]) => ({
      source: 'kernels.cc',
      object: `kernels-${target}.o`,
      flags: [...flags, `-DELAPID_TARGET=${target}`, ...kernelFlags],
    })),
    ...bf16.map(({ name, flags }) => ({
      source: `../../../ops/matmul/bf16-${name}.cc`,
      object: `bf16-${name}.o`,
      flags: [...flags, ...kernelFlags],
    })),
    { source: 'bf16.cc', object: 'bf16.o', flags: bf16.map(({ name }) => `-DELAPID_BF16_${name.toUpperCase()}`) },
    { source: 'pool.cc', object: 'pool.o', flags: [] },
    { source: 'engine.cc', object: 'engine.o', flags: [] },
    { source: 'addon.cc', object: 'addon.o', flags: [`-I${headers}`] },
  ];
  const started = Date.now();
  const queue = [...files];
  const compileNext = async () => {
    for (let unit = queue.shift(); unit !== undefined; unit = queue.shift()) {
      const { source, object, flags } = unit;
      await run(compiler, [...common, ...flags, '-c', join(sources, source), '-o', join(build, object)]);
    }
  };
  try {
    await Promise.all(Array.from({ length: Math.max(1, availableParallelism()) }, compileNext));
    const output = join(build, 'elapid.node');
    const undefinedSymbols = process.platform === 'darwin' ? ['-undefined', 'dynamic_lookup'] : ['-pthread'];
    const objects = files.map(({ object }) => join(build, object));
    // A running process may have the old file mapped: rename instead of overwriting.
    await run(compiler, ['-shared', ...undefinedSymbols, ...objects, '-o', `${output}.tmp`]);
    renameSync(`${output}.tmp`, output);
    const seconds = ((Date.now() - started) / 1000).toFixed(0);
    console.log(`elapid: built the native kernels (${[...Object.keys(targets), ...bf16.map(({ name }) => `bf16 on ${name}`)].join(', ')}) with ${compiler} in ${seconds} s.`);
  } catch (error) {
    if (process.env.ELAPID_REQUIRE_NATIVE) throw error;
    console.error(String(error.stderr ?? error.message).split('\n').slice(0, 30).join('\n'));
    noNative(`${compiler} could not compile them (messages above)`);
  }
}

await main();
