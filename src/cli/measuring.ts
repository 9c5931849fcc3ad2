import { exitCodes, interruption } from './options.js';
import { ProgressLine } from './progress.js';

/**
 * Runs a command that measures and keeps nothing: an interruption prints no figures, and is said with its exit code.
 * @param body is given the signal of the interruption, and clears the progress before it prints
 */
export async function measuring(body: (signal: AbortSignal, progress: ProgressLine) => Promise<void>): Promise<void> {
  const { signal, stop } = interruption();
  const progress = new ProgressLine();
  try {
    await body(signal, progress);
  } catch (error) {
    progress.clear();
    if (!signal.aborted) throw error;
    process.exitCode = exitCodes.interrupted;
  } finally {
    stop();
  }
}
