// Compiles src to dist, unless dist is what these sources give. A published package ships dist and has no compiler to run: then
// there is nothing to do.
//   node scripts/build.mjs [--unchecked]
// --unchecked leaves the types to `npm run types`: an install takes half the time, and what is committed has passed that check.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../', import.meta.url));
const dist = join(root, 'dist');
const build = join(root, 'build');
const stampFile = join(build, 'dist.json');
const temporary = '.dist-';
const unchecked = process.argv.includes('--unchecked');

/** A hash of everything that dist is made of. */
function sourcesHash(compilerVersion) {
  const hash = createHash('sha256').update(compilerVersion);
  const sources = readdirSync(join(root, 'src'), { recursive: true }).map((name) => join('src', name));
  for (const name of [...sources, 'tsconfig.json', 'package.json', 'scripts/build.mjs'].sort()) {
    if (statSync(join(root, name)).isFile()) hash.update(`${name}\0${readFileSync(join(root, name), 'utf8')}\0`);
  }
  return hash.digest('hex');
}

function isCurrent(sources) {
  try {
    const stamp = JSON.parse(readFileSync(stampFile, 'utf8'));
    return stamp.sources === sources && (unchecked || stamp.checked) && existsSync(join(dist, 'cli/main.js'));
  } catch {
    return false;
  }
}

let compiler;
try {
  compiler = createRequire(import.meta.url).resolve('typescript/package.json');
} catch (error) {
  if (!existsSync(join(dist, 'index.js'))) throw error;
}
if (compiler !== undefined) {
  const sources = sourcesHash(JSON.parse(readFileSync(compiler, 'utf8')).version);
  if (isCurrent(sources)) console.log('elapid: dist is up to date.');
  else compile(sources);
}

/**
 * Compiles into a folder of its own, which takes the place of dist when it is whole: two builds at once, or a program that runs
 * meanwhile, find all of the old or all of the new. It is beside dist, because source maps name src by its relative path.
 */
function compile(sources) {
  console.log('elapid: compiling TypeScript …');
  mkdirSync(build, { recursive: true });
  removeRemains();
  const folder = mkdtempSync(join(root, temporary));
  try {
    const options = ['-p', join(root, 'tsconfig.json'), '--outDir', folder, ...(unchecked ? ['--noCheck'] : [])];
    execFileSync(process.execPath, [join(dirname(compiler), 'bin/tsc'), ...options], { stdio: 'inherit' });
    chmodSync(join(folder, 'cli/main.js'), 0o755);
    rmSync(stampFile, { force: true });
    if (existsSync(dist)) renameSync(dist, `${folder}-old`);
    renameSync(folder, dist);
    writeFileSync(stampFile, JSON.stringify({ sources, checked: !unchecked }));
  } finally {
    for (const name of [folder, `${folder}-old`]) rmSync(name, { recursive: true, force: true });
  }
}

/** Removes what builds left that were killed: none takes an hour. */
function removeRemains() {
  for (const name of readdirSync(root).filter((entry) => entry.startsWith(temporary))) {
    const age = Date.now() - (statSync(join(root, name), { throwIfNoEntry: false })?.mtimeMs ?? 0);
    if (age > 3_600_000) rmSync(join(root, name), { recursive: true, force: true });
  }
}
