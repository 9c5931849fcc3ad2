import { spawn, spawnSync } from 'node:child_process';
import { appendFileSync, chmodSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeEach, describe, expect, test } from 'vitest';
import { useFolder } from '../support/folders.js';

const root = fileURLToPath(new URL('../../', import.meta.url));
const addon = join(root, 'build/elapid.node');
const isHere = existsSync(addon);
if (!isHere && process.env['CI'] === 'true') throw new Error('CI must test the native build');

/** A compiler that makes nothing: it notes its calls, answers the build's questions, and gives a finished addon. */
const fakeCompiler = `#!/bin/sh
echo "$*" >> "$FAKE/calls"
[ "$1" = --version ] && { cat "$FAKE/version"; exit; }
for argument; do output=$argument; done
case "$*" in
  *processor.cc*) printf '#!/bin/sh\\ncat "$FAKE/processor"\\n' > "$output"; chmod +x "$output" ;;
  *-shared*) cp "$FAKE/addon" "$output" ;;
  *probe-amx*) [ -e "$FAKE/amx" ] || exit 1 ;;
  *) if [ -e "$FAKE/broken" ]; then echo 'kernels.cc:1: internal compiler error' >&2; exit 1; fi
     if [ -e "$FAKE/slow" ]; then exec sleep 20; fi
     : > "$output" ;;
esac
`;

describe.skipIf(process.platform === 'win32' || process.arch !== 'x64')('the build of the native kernels', () => {
  const path = useFolder();
  const build = (...names: string[]) => path('package/build', ...names);

  // A package with the real sources and scripts, anew for each test.
  beforeEach(() => {
    for (const name of ['package', 'fake', 'bin']) rmSync(path(name), { recursive: true, force: true });
    mkdirSync(path('package/scripts'), { recursive: true });
    for (const name of ['build-native.mjs', 'native-units.mjs']) cpSync(join(root, 'scripts', name), path('package/scripts', name));
    // Two operations are as good as all.
    for (const folder of ['backend', 'ops/matmul', 'ops/adamw']) {
      cpSync(join(root, 'src', folder), path('package/src', folder), { recursive: true, filter: (file) => !/\.(ts|js|md)$/.test(file) });
    }
    writeFileSync(path('package/package.json'), '{}');
    symlinkSync(join(root, 'node_modules'), path('package/node_modules'));
    mkdirSync(path('fake'));
    mkdirSync(path('bin'));
    writeFileSync(path('bin/c++'), fakeCompiler);
    chmodSync(path('bin/c++'), 0o755);
    writeFileSync(path('fake/version'), 'fake c++ 1.0\nwords\n');
    runs('kernels avx2 sse2', 'bf16');
    if (isHere) symlinkSync(addon, path('fake/addon'));
    else writeFileSync(path('fake/addon'), '');
  });

  /** What the processor says it runs. */
  function runs(...lines: string[]): void {
    writeFileSync(path('fake/processor'), `${lines.join('\n')}\n`);
  }

  const environment = (extra: Record<string, string>) => ({ PATH: `${path('bin')}:/usr/bin:/bin`, FAKE: path('fake'), HOME: path(), ...extra });

  /** Runs the build and gives its exit code, its words, and the object files that it compiled. */
  function run(args: string[] = [], extra: Record<string, string> = {}) {
    writeFileSync(path('fake/calls'), '');
    const { status, stdout, stderr } = spawnSync(process.execPath, [path('package/scripts/build-native.mjs'), ...args], { env: environment(extra), encoding: 'utf8' });
    const calls = readFileSync(path('fake/calls'), 'utf8').split('\n');
    const compiled = calls.flatMap((call) => /\/(\w[\w-]*)\.cc\.o$/.exec(call)?.[1] ?? []);
    return { code: status, said: stdout + stderr, compiled };
  }

  const upToDate = { code: 0, said: 'elapid: the native kernels are up to date.\n', compiled: [] };
  const sets = (compiled: string[]) => [...new Set(compiled.flatMap((name) => /^(avx512|avx2|sse2)-/.exec(name)?.[1] ?? []))].sort();

  describe.skipIf(!isHere)(isHere ? 'with a compiler' : 'with a compiler [skipped: no native kernels were built here]', () => {
    test('is of what the processor runs best, says so, and is not repeated', () => {
      const { code, said, compiled } = run();
      expect(said).toMatch(/^elapid: building the native kernels \(avx2\) with c\+\+; this takes some seconds …\nelapid: built the native kernels in \d+ s\.\n$/);
      expect(code).toBe(0);
      expect(sets(compiled)).toEqual(['avx2']);
      expect(compiled.filter((name) => name.includes('bf16-'))).toEqual([]);
      expect(readdirSync(build()).sort()).toEqual(['elapid.json', 'elapid.node']);
      expect(run()).toEqual(upToDate);
      // As npx and a second npm install run it.
      expect(run([], { npm_command: 'exec' })).toEqual(upToDate);
    });

    test('is repeated when anything changed', () => {
      run();
      const changes: [string, () => unknown, Record<string, string>, string[]][] = [
        ['a source', () => { appendFileSync(path('package/src/ops/matmul/tile.h'), '// changed\n'); }, {}, ['avx2']],
        ['the flags', () => { appendFileSync(path('package/scripts/native-units.mjs'), '// changed\n'); }, {}, ['avx2']],
        ['the compiler', () => { writeFileSync(path('fake/version'), 'fake c++ 2.0\n'); }, {}, ['avx2']],
        ['the file', () => { writeFileSync(build('elapid.node'), 'no addon'); }, {}, ['avx2']],
        ['the stamp', () => { writeFileSync(build('elapid.json'), '{"sour'); }, {}, ['avx2']],
        ['that there is a file', () => { rmSync(build('elapid.node')); }, {}, ['avx2']],
        ['the processor', () => { runs('kernels avx512 avx2 sse2', 'bf16 avx512'); }, {}, ['avx512']],
        ['nothing but the wish, by npm rebuild', () => undefined, { npm_command: 'rebuild' }, ['avx512']],
        ['nothing but the wish for all', () => undefined, { ELAPID_NATIVE: 'all' }, ['avx2', 'avx512', 'sse2']],
      ];
      for (const [what, change, extra, expected] of changes) {
        change();
        const { code, compiled } = run([], extra);
        expect({ what, code, sets: sets(compiled) }).toEqual({ what, code: 0, sets: expected });
      }
      expect(run()).toEqual(upToDate);
    });

    test('of all serves whatever is a part of it', () => {
      writeFileSync(path('fake/amx'), '');
      runs('kernels avx512 avx2 sse2', 'bf16 amx avx512');
      const { compiled } = run(['--all']);
      expect(sets(compiled)).toEqual(['avx2', 'avx512', 'sse2']);
      expect(compiled.filter((name) => name.includes('bf16-')).sort()).toEqual(['ops-matmul-bf16-amx', 'ops-matmul-bf16-avx512']);
      expect(run()).toEqual(upToDate);
      runs('kernels avx2 sse2', 'bf16');
      expect(run()).toEqual(upToDate);
    });

    test('leaves out units that the compiler does not know', () => {
      runs('kernels avx512 avx2 sse2', 'bf16 amx avx512');
      const { said, compiled } = run();
      expect(said).toContain('elapid: c++ does not know the bf16 instructions of amx; its kernels are left out.\n');
      expect(compiled.filter((name) => name.includes('bf16-'))).toEqual(['ops-matmul-bf16-avx512']);
    });

    test('that is interrupted leaves what was there, and nothing else', async () => {
      run();
      const before = readFileSync(build('elapid.json'), 'utf8');
      appendFileSync(path('package/src/ops/matmul/tile.h'), '// changed\n');
      writeFileSync(path('fake/slow'), '');
      for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
        const child = spawn(process.execPath, [path('package/scripts/build-native.mjs')], { env: environment({}), stdio: ['ignore', 'pipe', 'ignore'] });
        await new Promise((resolve) => child.stdout.once('data', resolve));
        child.kill(signal);
        await new Promise((resolve) => child.once('exit', resolve));
        expect(readFileSync(build('elapid.json'), 'utf8')).toBe(before);
        const remains = readdirSync(build()).filter((name) => name.startsWith('building-'));
        expect(remains).toHaveLength(signal === 'SIGTERM' ? 0 : 1);
        for (const name of remains) utimesSync(build(name), 0, 0);
      }
      rmSync(path('fake/slow'));
      expect(sets(run().compiled)).toEqual(['avx2']);
      expect(readdirSync(build()).sort()).toEqual(['elapid.json', 'elapid.node']);
    });

    test('may run twice at once', async () => {
      const codes = await Promise.all([[], ['--all']].map((args) => new Promise((resolve) => {
        spawn(process.execPath, [path('package/scripts/build-native.mjs'), ...args], { env: environment({}), stdio: 'ignore' }).once('exit', resolve);
      })));
      expect(codes).toEqual([0, 0]);
      expect(readFileSync(build('elapid.node')).equals(readFileSync(addon))).toBe(true);
      expect(run().code).toBe(0);
      expect(run()).toEqual(upToDate);
    });

    test('keeps kernels of the same sources where the compiler has gone or broke', () => {
      run();
      rmSync(path('bin/c++'));
      const bare = { PATH: path('bin') };
      expect(run([], bare)).toMatchObject({ code: 0, said: 'elapid: no C++ compiler was found (c++, g++, clang++ or $CXX), so no native kernels are built. The native kernels that were built before stay.\n' });
      expect(existsSync(build('elapid.node'))).toBe(true);
      appendFileSync(path('package/src/ops/matmul/tile.h'), '// changed\n');
      expect(run([], bare).code).toBe(0);
      expect(readdirSync(build())).toEqual([]);
    });
  });

  const wasmServes = 'The wasm kernels serve instead: everything works, several times slower.';
  const howToGetNative = 'elapid: To get the native ones, install a C++ compiler (Debian, Ubuntu: apt install g++; macOS: xcode-select --install) and run: npm rebuild elapid (in a clone: npm run build:native)';

  test('without a compiler succeeds and says what serves', () => {
    expect(run([], { PATH: path('fake') })).toEqual({
      code: 0,
      said: `elapid: no C++ compiler was found (c++, g++, clang++ or $CXX), so no native kernels are built. ${wasmServes}\n${howToGetNative}\n`,
      compiled: [],
    });
  });

  test('with a broken compiler succeeds, shows what it said, and says what serves', () => {
    writeFileSync(path('fake/broken'), '');
    const { code, said } = run();
    expect(code).toBe(0);
    expect(said).toContain('kernels.cc:1: internal compiler error\n');
    expect(said).toContain(`elapid: c++ could not build the native kernels (its messages are above). ${wasmServes}\n${howToGetNative}\n`);
    expect(readdirSync(build())).toEqual([]);
  });

  test('whose result does not load counts as broken', () => {
    rmSync(path('fake/addon'));
    writeFileSync(path('fake/addon'), 'no addon');
    const { code, said } = run();
    expect(code).toBe(0);
    expect(said).toContain('could not build the native kernels');
    expect(readdirSync(build())).toEqual([]);
  });

  test.each([
    ['no compiler', { PATH: '/nowhere' }],
    ['a broken compiler', {}],
  ])('with %s fails where native kernels are required', (_, extra) => {
    writeFileSync(path('fake/broken'), '');
    const { code, said } = run([], { ...extra, ELAPID_REQUIRE_NATIVE: '1' });
    expect(code).toBe(1);
    expect(said).toMatch(/^elapid: .*, and ELAPID_REQUIRE_NATIVE is set\.$/m);
  });

  test.each([
    [['--everything'], {}, 'elapid: build-native takes --all, not --everything'],
    [[], { ELAPID_NATIVE: 'avx2' }, "elapid: ELAPID_NATIVE is 'avx2'; expected 'all' or nothing"],
  ])('refuses %j %j', (args, extra, message) => {
    expect(run(args, extra)).toEqual({ code: 1, said: `${message}\n`, compiled: [] });
  });
});
