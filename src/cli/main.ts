#!/usr/bin/env node
// Nothing is imported before errors are caught: a package that is missing, or a fault in a module, is told in a line as well.

/** Says what went wrong: in a line, or with `--debug` with its stack. */
function report(error: unknown): void {
  const message = error instanceof Error && error.message !== '' ? error.message : String(error);
  const stack = process.argv.includes('--debug') && error instanceof Error ? error.stack : undefined;
  process.stderr.write(`${stack ?? `elapid: ${message}`}\n`);
  process.exitCode = 1;
}

for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
  process.on(event, (error: unknown) => {
    report(error);
    process.exit();
  });
}

try {
  const { watchStreams } = await import('./streams.js');
  watchStreams();
  const { runProgram } = await import('./program.js');
  await runProgram(process.argv.slice(2));
} catch (error) {
  report(error);
}
