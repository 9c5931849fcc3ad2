import { createLogUpdate } from 'log-update';

/** One line of progress: rewritten in place on a terminal, printed now and then elsewhere. */
export class ProgressLine {
  readonly #stream: NodeJS.WriteStream;
  readonly #update: ReturnType<typeof createLogUpdate> | null;
  readonly #everyMs: number;
  #lastMs = -Infinity;

  /** @param everyMs time between lines where the stream is not a terminal */
  constructor(stream: NodeJS.WriteStream = process.stderr, everyMs = 10_000) {
    this.#stream = stream;
    this.#everyMs = everyMs;
    this.#update = stream.isTTY ? createLogUpdate(stream, { showCursor: true }) : null;
  }

  /** Shows the newest state of things. */
  show(text: string): void {
    const now = performance.now();
    if (this.#update !== null) {
      // Terminals cannot show more than some dozen states a second.
      if (now - this.#lastMs < 80) return;
      this.#update(text);
    } else {
      if (now - this.#lastMs < this.#everyMs) return;
      this.#stream.write(`${text}\n`);
    }
    this.#lastMs = now;
  }

  /** Prints a line that stays, above the progress. */
  print(text: string): void {
    this.#update?.clear();
    this.#stream.write(`${text}\n`);
    this.#lastMs = -Infinity;
  }

  /** Removes the progress line. */
  clear(): void {
    this.#update?.clear();
  }
}
