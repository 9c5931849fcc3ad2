import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { useFolder } from '../support/folders.js';

const root = fileURLToPath(new URL('../../', import.meta.url));

/** A tsc that copies its one source to the folder it is told, or fails where the source says so. */
const fakeTsc = `
const { appendFileSync, mkdirSync, readFileSync, writeFileSync } = require('node:fs');
const folder = process.argv[process.argv.indexOf('--outDir') + 1];
const source = readFileSync('src/cli/main.ts', 'utf8');
appendFileSync('calls', process.argv.includes('--noCheck') ? 'unchecked ' : 'checked ');
mkdirSync(folder + '/cli', { recursive: true });
writeFileSync(folder + '/cli/main.js', source);
if (source.includes('wrong')) process.exit(2);
`;

describe('the build of dist', () => {
  const path = useFolder();
  const write = (name: string, text: string) => {
    mkdirSync(path(name, '..'), { recursive: true });
    writeFileSync(path(name), text);
  };

  /** Runs the build and says whether it compiled. */
  function run(...args: string[]) {
    write('calls', '');
    const { status } = spawnSync(process.execPath, ['scripts/build.mjs', ...args], { cwd: path(), encoding: 'utf8' });
    const remains = readdirSync(path()).filter((name) => name.startsWith('.dist-'));
    return { code: status, calls: readFileSync(path('calls'), 'utf8').trim(), main: readFileSync(path('dist/cli/main.js'), 'utf8'), remains };
  }

  test('is of what changed, once, and whole', () => {
    mkdirSync(path('scripts'));
    cpSync(join(root, 'scripts/build.mjs'), path('scripts/build.mjs'));
    for (const name of ['package.json', 'tsconfig.json']) write(name, '{}');
    write('node_modules/typescript/package.json', '{"version": "1.0.0"}');
    write('node_modules/typescript/bin/tsc', fakeTsc);
    write('src/cli/main.ts', 'one');
    const result = (calls: string, main: string, code = 0) => ({ code, calls, main, remains: [] });
    expect(run('--unchecked')).toEqual(result('unchecked', 'one'));
    expect(run('--unchecked')).toEqual(result('', 'one'));
    // The types are still to be checked.
    expect(run()).toEqual(result('checked', 'one'));
    expect(run()).toEqual(result('', 'one'));
    expect(run('--unchecked')).toEqual(result('', 'one'));
    write('src/cli/main.ts', 'two');
    expect(run('--unchecked')).toEqual(result('unchecked', 'two'));
    write('node_modules/typescript/package.json', '{"version": "1.0.1"}');
    expect(run('--unchecked')).toEqual(result('unchecked', 'two'));
    // Errors leave dist as it was.
    write('src/cli/main.ts', 'wrong');
    expect(run()).toEqual(result('checked', 'two', 1));
    expect(run()).toEqual(result('checked', 'two', 1));
    write('src/cli/main.ts', 'two');
    rmSync(path('dist/cli/main.js'));
    expect(run('--unchecked')).toEqual(result('unchecked', 'two'));
  });
});
