// Builds wasm/elapid.wasm from the same sources as the native kernels, with clang and wasm-ld (Debian: clang-19, lld-19).
// The result is committed; `--check` builds it again and fails when it differs.
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { kernelSources } from './native-units.mjs';

const run = promisify(execFile);
const root = fileURLToPath(new URL('../', import.meta.url));
const output = join(root, 'wasm/elapid.wasm');
const temporary = mkdtempSync(join(tmpdir(), 'elapid-wasm-'));

const flags = [
  '--target=wasm32-unknown-unknown', '-std=c++20', '-O3', '-nostdlib', '-ffreestanding', '-fno-exceptions', '-fno-rtti',
  '-fno-threadsafe-statics', '-ffp-contract=fast', '-fno-math-errno', '-fno-trapping-math', '-msimd128', '-matomics',
  '-mbulk-memory', '-mmutable-globals', '-DELAPID_LANES=4', '-DELAPID_TARGET=wasm', '-ffile-prefix-map=' + root + '=',
];
const linkFlags = [
  '--no-entry', '--import-memory', '--shared-memory', '--max-memory=4294967296', '--initial-memory=1048576',
  '-z', 'stack-size=65536', '--export=__stack_pointer', '--export=__heap_base', '--strip-all',
];

try {
  const sources = [...kernelSources, 'backend/cpu/native/pool.cc', 'backend/cpu/native/wasm.cc'];
  const objects = await Promise.all(
    sources.map(async (source) => {
      const object = join(temporary, `${source.replaceAll('/', '-')}.o`);
      await run('clang-19', [...flags, '-c', join('src', source), '-o', object], { cwd: root });
      return object;
    }),
  );
  const built = join(temporary, 'elapid.wasm');
  await run('wasm-ld-19', [...linkFlags, ...objects, '-o', built]);
  const bytes = readFileSync(built);
  if (process.argv.includes('--check')) {
    if (!bytes.equals(readFileSync(output))) {
      console.error('wasm/elapid.wasm is not what its sources give. Run: npm run build:wasm');
      process.exitCode = 1;
    }
  } else {
    mkdirSync(join(root, 'wasm'), { recursive: true });
    writeFileSync(output, bytes);
    console.log(`wrote wasm/elapid.wasm (${bytes.length} bytes)`);
  }
} finally {
  rmSync(temporary, { recursive: true });
}
