// Builds the native kernels into build/elapid.node. It is the package's install script: without a C++ compiler it says so
// and succeeds, and the wasm kernels serve. What is up to date is not built again; npm rebuild builds in any case.
//   node scripts/build-native.mjs [--all]
// It builds what this processor runs best; with --all, or ELAPID_NATIVE=all, every instruction set that the compiler knows.
// With ELAPID_REQUIRE_NATIVE=1 it fails where it would leave the package without native kernels.
//
// The compiler is called directly rather than through node-gyp: Node-API needs nothing of Node but its headers (the
// package node-api-headers), so no Python, no make and no download are involved.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { bf16Units, instructionSets, processorProgram, sourcesHash, translationUnits } from './native-units.mjs';

const build = fileURLToPath(new URL('../build/', import.meta.url));
const output = join(build, 'elapid.node');
const stampFile = join(build, 'elapid.json');

/** Aborted when the build is: compilers must not go on in a folder that is gone. */
const interruption = new AbortController();
const run = (file, args) => promisify(execFile)(file, args, { signal: interruption.signal, maxBuffer: 2 ** 26 });
const say = (text) => console.log(`elapid: ${text}`);

/** What the kernels need to serve, in the words of every message that has none. */
const howToGetNative = 'To get the native ones, install a C++ compiler (Debian, Ubuntu: apt install g++; macOS: xcode-select --install) and run: npm rebuild elapid (in a clone: npm run build:native)';
const wasmServes = 'The wasm kernels serve instead: everything works, several times slower.';

async function findCompiler() {
  for (const command of [process.env.CXX, 'c++', 'g++', 'clang++']) {
    if (!command) continue;
    try {
      return { command, version: (await run(command, ['--version'])).stdout.split('\n')[0] };
    } catch (error) {
      if (interruption.signal.aborted) throw error;
      // try the next
    }
  }
  return undefined;
}

/** What this processor runs, best first: { kernels: ['avx2', 'sse2'], bf16: [] }. */
async function askProcessor(compiler, folder) {
  const program = join(folder, 'processor');
  await run(compiler, ['-std=c++20', processorProgram, '-o', program]);
  const lines = (await run(program, [])).stdout.trim().split('\n').map((line) => line.split(' '));
  return Object.fromEntries(lines.map(([name, ...values]) => [name, values]));
}

/** Those of these bf16 units that the compiler can build for, the first only unless `all`. */
async function buildableUnits(compiler, folder, units, all) {
  const found = [];
  for (const name of units) {
    const { flags, instruction } = bf16Units[name];
    const probe = join(folder, `probe-${name}`);
    writeFileSync(`${probe}.cc`, `#include <immintrin.h>\nvoid probe() { asm volatile("${instruction}"); }\n`);
    try {
      await run(compiler, [...flags, '-c', `${probe}.cc`, '-o', `${probe}.o`]);
      found.push(name);
      if (!all) break;
    } catch (error) {
      if (interruption.signal.aborted) throw error;
      say(`${compiler} does not know the bf16 instructions of ${name}; its kernels are left out.`);
    }
  }
  return found;
}

const hashOf = (file) => createHash('sha256').update(readFileSync(file)).digest('hex');

/** What the kernels in build/ were made of, or undefined where there are none, or others than the stamp says. */
function readStamp() {
  try {
    const stamp = JSON.parse(readFileSync(stampFile, 'utf8'));
    return stamp.file === hashOf(output) ? stamp : undefined;
  } catch {
    return undefined;
  }
}

/** Ends without new kernels: those of the same sources stay, others go, as they would not fit this code. */
function keepOrRemove(reason, sources) {
  const kept = readStamp()?.sources === sources;
  if (!kept) for (const file of [output, stampFile]) rmSync(file, { force: true });
  if (kept) return say(`${reason}. The native kernels that were built before stay.`);
  if (process.env.ELAPID_REQUIRE_NATIVE) throw new Error(`elapid: ${reason}, and ELAPID_REQUIRE_NATIVE is set.`);
  say(`${reason}. ${wasmServes}${instructionSets === undefined || process.platform === 'win32' ? '' : `\nelapid: ${howToGetNative}`}`);
}

async function compileAll(compiler, folder, units) {
  const queue = [...units];
  const compileNext = async () => {
    for (let unit = queue.shift(); unit !== undefined; unit = queue.shift()) {
      const { source, object, flags } = unit;
      await run(compiler, [...flags, '-c', source, '-o', join(folder, object)]);
    }
  };
  try {
    await Promise.all(Array.from({ length: Math.max(1, availableParallelism()) }, compileNext));
  } finally {
    queue.length = 0;
  }
  const linked = join(folder, 'elapid.node');
  const undefinedSymbols = process.platform === 'darwin' ? ['-undefined', 'dynamic_lookup'] : ['-pthread'];
  await run(compiler, ['-shared', ...undefinedSymbols, ...units.map(({ object }) => join(folder, object)), '-o', linked]);
  // In a process of its own: a file that is replaced must not be loaded here, and one that cannot be loaded must be noticed.
  await run(process.execPath, ['-e', 'require(process.argv[1]).targets()', linked]);
  return linked;
}

/** Builds in a folder of its own and moves what is whole: neither an interruption nor a second build leaves half a state. */
async function buildNative(folder, all, sources) {
  const compiler = await findCompiler();
  if (compiler === undefined) return keepOrRemove('no C++ compiler was found (c++, g++, clang++ or $CXX), so no native kernels are built', sources);
  const { command, version } = compiler;
  try {
    const processor = await askProcessor(command, folder);
    const kernels = all ? Object.keys(instructionSets) : processor.kernels.slice(0, 1);
    const possible = !kernels.includes('avx512') ? [] : all ? Object.keys(bf16Units) : processor.bf16;
    const bf16 = await buildableUnits(command, folder, possible, all);
    const stamp = readStamp();
    const has = (name, wanted) => wanted.every((one) => stamp?.[name]?.includes(one));
    const current = stamp?.sources === sources && stamp.compiler === version && has('kernels', kernels) && has('bf16', bf16);
    if (current && process.env.npm_command !== 'rebuild') return say('the native kernels are up to date.');

    const names = [...kernels, ...bf16.map((name) => `bf16 on ${name}`)].join(', ');
    say(`building the native kernels (${names}) with ${command}; this takes some seconds …`);
    const started = Date.now();
    const { include_dir: headers } = createRequire(import.meta.url)('node-api-headers');
    const linked = await compileAll(command, folder, translationUnits(kernels, bf16, headers));
    const contents = { sources, compiler: version, kernels, bf16, file: hashOf(linked) };
    writeFileSync(join(folder, 'elapid.json'), JSON.stringify(contents, null, 2));
    // A running process may have the old file mapped: rename instead of overwriting. Between the two renames, and when another
    // build makes its own meanwhile, the stamp is not the file's, and the next build begins anew.
    renameSync(linked, output);
    renameSync(join(folder, 'elapid.json'), stampFile);
    say(`built the native kernels in ${((Date.now() - started) / 1000).toFixed(0)} s.`);
  } catch (error) {
    if (interruption.signal.aborted) throw error;
    console.error(String(error.stderr || error.message).trim().split('\n').slice(0, 30).join('\n'));
    keepOrRemove(`${command} could not build the native kernels (its messages are above)`, sources);
  }
}

/** Removes what builds left that were killed: none takes an hour. */
function removeRemains() {
  for (const name of readdirSync(build).filter((entry) => entry.startsWith('building-'))) {
    const age = Date.now() - (statSync(join(build, name), { throwIfNoEntry: false })?.mtimeMs ?? 0);
    if (age > 3_600_000) rmSync(join(build, name), { recursive: true, force: true });
  }
}

async function main() {
  const unknown = process.argv.slice(2).filter((argument) => argument !== '--all');
  if (unknown.length > 0) throw new Error(`elapid: build-native takes --all, not ${unknown.join(' ')}`);
  const wish = process.env.ELAPID_NATIVE ?? '';
  if (!['', 'all'].includes(wish)) throw new Error(`elapid: ELAPID_NATIVE is '${wish}'; expected 'all' or nothing`);
  const all = wish === 'all' || process.argv.includes('--all');
  const sources = sourcesHash();
  if (process.platform === 'win32' || instructionSets === undefined) {
    return keepOrRemove(`there are no native kernels for ${process.platform} on ${process.arch}`, sources);
  }
  mkdirSync(build, { recursive: true });
  removeRemains();
  const folder = mkdtempSync(join(build, 'building-'));
  const remove = () => rmSync(folder, { recursive: true, force: true });
  for (const [signal, number] of [['SIGHUP', 1], ['SIGINT', 2], ['SIGTERM', 15]]) {
    process.once(signal, () => {
      interruption.abort();
      remove();
      process.exit(128 + number);
    });
  }
  try {
    await buildNative(folder, all, sources);
  } finally {
    remove();
  }
}

try {
  await main();
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
