/**
 * Makes operations on files fail from a certain one on: imported by a test, or by `node --import` of a command
 * (ELAPID_FAULT='{"kind":"SIGKILL","at":7}'). Kinds:
 *
 * - ENOSPC (or another code): operations that need space fail, the first of them after writing half; others go on;
 * - crash: every operation that changes anything fails, as if the process had been killed: what it would clean up stays;
 * - SIGKILL: the process kills itself, after writing half;
 * - SIGHUP: the process gets the signal once, and goes on as it will; one that would die of it goes on, too.
 */
import fs from 'node:fs';
import fsp from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { fileURLToPath } from 'node:url';

/** @type {{ kind: string, at: number } | null} */
let plan = null;
let count = 0;
/** @type {(operation: string, path: string) => void} */
let done = () => undefined;

/**
 * @param {{ kind: string, at: number } | null} next the fault, at the at-th operation from now
 * @param {(operation: string, path: string) => void} [onDone] told of each operation that succeeded
 */
export function arm(next, onDone = () => undefined) {
  [plan, count, done] = [next, 0, onDone];
}

/** Ends the faults. @returns the operations since `arm`, of the kind that counts */
export function disarm() {
  const operations = count;
  arm(null);
  return operations;
}

/** Whether this operation is to fail. */
function due(needsSpace) {
  const frees = plan !== null && /^E[A-Z]+$/.test(plan.kind) && !needsSpace;
  if (frees) return false;
  count++;
  if (plan === null || count < plan.at) return false;
  if (plan.kind === 'SIGHUP') {
    plan = null;
    process.emit('SIGHUP', 'SIGHUP');
    return false;
  }
  return true;
}

function fail(operation, path) {
  if (plan?.kind === 'SIGKILL') process.kill(process.pid, 'SIGKILL');
  const code = plan?.kind === 'crash' ? 'ECRASH' : (plan?.kind ?? 'ENONE');
  throw Object.assign(new Error(`${code}: injected, ${operation} '${path}'`), { code });
}

function wrap(module, name, needsSpace, isWrite = () => true) {
  const original = module[name];
  const sync = name.endsWith('Sync');
  const before = (args) => {
    if (isWrite(...args) && due(needsSpace)) fail(name, String(args[0]));
  };
  module[name] = sync
    ? (...args) => {
        before(args);
        return original(...args);
      }
    : async (...args) => {
        before(args);
        const result = await original(...args);
        done(name, String(name === 'rename' ? args[1] : args[0]));
        return result;
      };
}

const handle = await fsp.open(fileURLToPath(import.meta.url));
const prototype = Object.getPrototypeOf(handle);
await handle.close();
const writeFile = prototype.writeFile;
prototype.writeFile = async function (data, ...rest) {
  if (due(true)) {
    await writeFile.call(this, data.slice(0, Math.floor(data.length / 2)));
    fail('write', 'a handle');
  }
  return writeFile.call(this, data, ...rest);
};
wrap(fsp, 'open', true, (_path, flags = 'r') => flags !== 'r');
for (const name of ['mkdir', 'writeFile', 'link', 'copyFile']) wrap(fsp, name, true);
for (const name of ['rename', 'rm']) wrap(fsp, name, false);
for (const name of ['unlinkSync', 'rmdirSync']) wrap(fs, name, false);
syncBuiltinESMExports();

if (process.env.ELAPID_FAULT !== undefined) arm(JSON.parse(process.env.ELAPID_FAULT));
