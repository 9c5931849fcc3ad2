import { platform } from '#platform';
import type { Command } from 'commander';
import { CheckpointError } from '../../util/errors.js';
import { dashboardPort, startDashboard } from '../dashboard.js';
import { integer, interruption } from '../options.js';

/** `elapid dashboard RUN` */
export function addDashboard(program: Command): void {
  program
    .command('dashboard')
    .summary('show a training run as a page')
    .description('Serves a page on this machine that shows a run, finished or under way, as elapid train --dashboard does. Ctrl-C ends it.')
    .argument('<run>', 'folder of a training run')
    .option('--port <n>', `port to serve on (default: ${dashboardPort}, or any that is free)`, integer(1, 65535))
    .addHelpText('after', '\nExample:\n  elapid dashboard runs/austen')
    .action(run);
}

async function run(folder: string, { port }: { readonly port?: number }): Promise<void> {
  const kind = await platform.pathKind(folder);
  if (kind !== 'folder') throw new CheckpointError(`is ${kind === undefined ? 'missing' : 'a file'}; expected the folder of a training run`, { file: folder });
  const { signal, stop } = interruption();
  const dashboard = await startDashboard({ folder }, port);
  process.stdout.write(`${dashboard.url}\n`);
  await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
  await dashboard.close();
  stop();
}
