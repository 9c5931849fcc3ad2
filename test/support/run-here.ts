import { runProgram } from '../../src/cli/program.js';

/** How a command ended that ran in this process. */
export interface HereResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs `elapid` with these arguments in this process: what tests need that run it a hundred times. */
export async function runHere(...args: readonly string[]): Promise<HereResult> {
  const printed = { stdout: '', stderr: '' };
  const originals = { stdout: process.stdout.write, stderr: process.stderr.write };
  for (const name of ['stdout', 'stderr'] as const) {
    process[name].write = (text: string | Uint8Array) => {
      printed[name] += String(text);
      return true;
    };
  }
  const before = process.exitCode;
  process.exitCode = undefined;
  try {
    await runProgram(args);
    return { code: Number(process.exitCode ?? 0), ...printed };
  } catch (error) {
    printed.stderr += `elapid: ${error instanceof Error ? error.message : String(error)}\n`;
    return { code: 1, ...printed };
  } finally {
    process.exitCode = before;
    process.stdout.write = originals.stdout;
    process.stderr.write = originals.stderr;
  }
}
