// The rates that limits are made of, measured by bench/probe/probe.cc, which is compiled here for this very processor.
import { execFile } from 'node:child_process';
import { mkdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const source = fileURLToPath(new URL('../probe/probe.cc', import.meta.url));
const folder = fileURLToPath(new URL('../../build', import.meta.url));
const program = join(folder, 'probe');
const flags = ['-std=c++20', '-O3', '-march=native', '-mprefer-vector-width=512', '-ffp-contract=fast', '-fno-math-errno'];

const modified = (/** @type {string} */ path) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;

/** @type {string | undefined} */
let unavailable;

/** Compiles the probe, unless it is there. @returns why it cannot run, or undefined */
export async function buildProbe() {
  if (process.arch !== 'x64') return (unavailable = `the probes are written for x86-64, not for ${process.arch}`);
  if (modified(program) > modified(source)) return undefined;
  mkdirSync(folder, { recursive: true });
  try {
    await run(process.env['CXX'] ?? 'c++', [...flags, '-fno-trapping-math', '-pthread', '-Wno-psabi', source, '-o', program]);
  } catch (error) {
    unavailable = `the probe does not compile: ${String(error).split('\n')[0] ?? ''}`;
  }
  return unavailable;
}

/**
 * Measures rates, each some 60 ms long.
 * @param {readonly string[]} requests as bench/probe/probe.cc takes them: `fma:2`, `read:2:268435456`, …
 * @returns the rates in GFLOP/s, Gexp/s or GB/s; NaN where there is no such unit, or no probe
 */
export async function probe(requests) {
  if (unavailable !== undefined) return requests.map(() => NaN);
  const { stdout } = await run(program, [...requests]);
  return stdout.trim().split('\n').map((line) => (line === 'null' ? NaN : Number(line)));
}
