// Compiles src to dist. A published package ships dist and has no compiler to run: then there is nothing to do.
import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../', import.meta.url));
let compiler;
try {
  compiler = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin/tsc');
} catch (error) {
  if (!existsSync(join(root, 'dist/index.js'))) throw error;
}
if (compiler !== undefined) {
  rmSync(join(root, 'dist'), { recursive: true, force: true });
  execFileSync(process.execPath, [compiler, '-p', join(root, 'tsconfig.json')], { stdio: 'inherit' });
  chmodSync(join(root, 'dist/cli/main.js'), 0o755);
  linkCommand();
}

// In a clone, too, `npx elapid` is the command; without the link npx would install a second copy of the package to find it.
function linkCommand() {
  if (process.platform === 'win32') return;
  const link = join(root, 'node_modules/.bin/elapid');
  mkdirSync(dirname(link), { recursive: true });
  rmSync(link, { force: true });
  symlinkSync('../../dist/cli/main.js', link);
}
