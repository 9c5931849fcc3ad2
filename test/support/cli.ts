import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { readFileSync } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';

/** The built CLI; vitest's global setup keeps it current. */
export const cliPath = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

/** How a command ended. */
export interface CliResult {
  /** Null where a signal ended it. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A command that runs. */
export interface RunningCli {
  readonly child: ChildProcessByStdio<Writable | null, Readable, Readable>;
  readonly result: Promise<CliResult>;
}

/** Starts `elapid` with these arguments. */
export function startCli(args: readonly string[], path = cliPath): RunningCli {
  return collect(spawn(process.execPath, [path, ...args], { stdio: ['ignore', 'pipe', 'pipe'] }));
}

/** Runs `elapid` with these arguments to its end. */
export function runCli(...args: readonly string[]): Promise<CliResult> {
  return startCli(args).result;
}

/** Runs `elapid` with `input` on its standard input; undefined leaves it open and silent. */
export async function runCliWithInput(input: string | Uint8Array | undefined, ...args: readonly string[]): Promise<CliResult> {
  const child = spawn(process.execPath, [cliPath, ...args], { stdio: ['pipe', 'pipe', 'pipe'] });
  // A command that does not read it, or ends before it has, closes the pipe.
  child.stdin.on('error', () => undefined);
  if (input !== undefined) child.stdin.end(input);
  try {
    return await collect(child).result;
  } finally {
    child.stdin.destroy();
  }
}

/** Runs a line of bash, in which $elapid is the CLI and $1, $2, … are `args`. */
export function runShell(line: string, ...args: readonly string[]): Promise<CliResult> {
  const env = { ...process.env, node: process.execPath, cli: cliPath };
  const script = `set -o pipefail; elapid() { "$node" "$cli" "$@"; }; ${line}`;
  return collect(spawn('bash', ['-c', script, 'bash', ...args], { stdio: ['ignore', 'pipe', 'pipe'], env })).result;
}

function collect(child: ChildProcessByStdio<Writable | null, Readable, Readable>): RunningCli {
  const [stdout, stderr]: [Buffer[], Buffer[]] = [[], []];
  child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
  const result = new Promise<CliResult>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => {
      resolve({ code, signal, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() });
    });
  });
  return { child, result };
}

/** A text that a small model can learn something of. */
export const trainingText = readFileSync(new URL('../../data/pride-and-prejudice.txt', import.meta.url), 'utf8').slice(0, 6000);

/** Options of a run that takes a moment, for `--validation`. */
export const tinyModel = [
  ...['--d-model', '16', '--layers', '2', '--d-state', '4', '--batch-size', '2', '--length', '24', '--learning-rate', '0.01'],
  ...['--threads', '1'],
] as const;

/** The same with a small part held out. */
export const tinyRun = [...tinyModel, '--validation-share', '0.05'] as const;

/** One line of metrics.jsonl. */
export interface MetricsLine {
  readonly step: number;
  readonly seconds: number;
  readonly loss?: number;
  readonly validationLoss?: number;
  readonly divergence?: string;
  readonly skipped?: boolean;
  readonly prompt?: string;
  readonly sample?: string;
}

/** The lines of a metrics file: all must be whole. */
export function readMetrics(path: string): MetricsLine[] {
  const text = readFileSync(path, 'utf8');
  if (!text.endsWith('\n')) throw new Error(`${path} ends within a line`);
  return text.trimEnd().split('\n').map((line) => JSON.parse(line) as MetricsLine);
}

/** The training steps of a metrics file with their losses. */
export const stepsOf = (path: string): [number, number][] =>
  readMetrics(path).flatMap(({ step, loss }): [number, number][] => (loss === undefined ? [] : [[step, loss]]));
