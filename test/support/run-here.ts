import { vi } from 'vitest';
import { runProgram } from '../../src/cli/program.js';

/** How a command ended that ran in this process. */
export interface HereResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

let last: Promise<unknown> = Promise.resolve();

/**
 * Runs `elapid` with these arguments in this process, which takes milliseconds where a process of its own takes most of a second. Runs
 * that are begun at once follow one another, since they print to the same streams.
 */
export function runHere(...args: readonly string[]): Promise<HereResult> {
  const run = last.then(() => runNow(args));
  last = run;
  return run;
}

async function runNow(args: readonly string[]): Promise<HereResult> {
  const printed = { stdout: '', stderr: '' };
  const spies = (['stdout', 'stderr'] as const).map((name) =>
    vi.spyOn(process[name], 'write').mockImplementation((text) => {
      printed[name] += String(text);
      return true;
    }),
  );
  const before = process.exitCode;
  process.exitCode = 0;
  try {
    await runProgram(args);
    return { code: process.exitCode, ...printed };
  } catch (error) {
    printed.stderr += `elapid: ${error instanceof Error ? error.message : String(error)}\n`;
    return { code: 1, ...printed };
  } finally {
    process.exitCode = before;
    for (const spy of spies) spy.mockRestore();
  }
}
