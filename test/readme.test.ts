import { execFile } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));
const readme = readFileSync(join(root, 'README.md'), 'utf8');
const examples = [...readme.matchAll(/^```js\n([\s\S]*?)^```$/gm)].map(([, code]) => code ?? '');

describe('README', () => {
  test('has its two commands first', () => {
    const commands = [...readme.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map(([, code]) => code ?? '');
    expect(commands[0]).toMatch(/^npm install\n.*generate/s);
    expect(commands[1]).toBe('npm install\nnpm test\n');
  });

  /** What each example prints. */
  const outputs = [/\w.{20}/s, /^\[ 2, 64, 16 \]\n-?\d+\.\d+ \[ 2, 64, 16 \]\n$/, /50 \d\.\d+\nheld out \d\.\d+\n/];

  test('has as many examples as are checked', () => {
    expect(examples.length).toBe(outputs.length);
  });

  test.each(examples.map((code, i) => [i + 1, code] as const))('example %i runs', async (number, code) => {
    // Inside of the package, so that `elapid` is the package itself.
    const folder = join(root, 'build/examples');
    mkdirSync(folder, { recursive: true });
    const file = join(folder, `readme-${number}.mjs`);
    writeFileSync(file, code);
    const { stdout } = await promisify(execFile)(process.execPath, [file], { cwd: root });
    expect(stdout).toMatch(outputs[number - 1] ?? /never/);
    rmSync(file);
  });
});
