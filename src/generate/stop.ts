import { ArgumentError } from '../util/errors.js';

/**
 * Watches streamed text for stop sequences: lets through what cannot belong to one, holds back the longest suffix that may
 * still become one, and after the first that is complete lets nothing through, not the sequence itself either.
 *
 * The sequence that ends first wins; of those that end together, the longest. So it does not matter how the text is cut.
 */
export class StopMatcher {
  readonly #sequences: readonly string[];
  #held = '';
  #stopped: string | undefined;

  /** @throws ArgumentError where a sequence is empty */
  constructor(sequences: readonly string[]) {
    for (const [i, sequence] of sequences.entries()) {
      if (sequence !== '') continue;
      const problem = { operation: 'StopMatcher', argument: `sequences[${i}]`, expected: 'some text', got: 'empty' };
      throw new ArgumentError(problem);
    }
    this.#sequences = [...sequences];
  }

  /** The stop sequence that was found, or undefined as long as none was. */
  get stopped(): string | undefined {
    return this.#stopped;
  }

  /** Takes the next piece of text and returns what may be shown now; the empty string once stopped. */
  push(text: string): string {
    if (this.#stopped !== undefined) return '';
    const seen = this.#held + text;
    const match = this.#firstMatch(seen);
    if (match !== undefined) {
      this.#held = '';
      this.#stopped = match.sequence;
      return seen.slice(0, match.start);
    }
    const safe = seen.length - this.#unsafeLength(seen);
    this.#held = seen.slice(safe);
    return seen.slice(0, safe);
  }

  /** Ends the text: returns what was held back, which can no longer become a stop sequence. */
  flush(): string {
    const rest = this.#held;
    this.#held = '';
    return rest;
  }

  #firstMatch(text: string): { sequence: string; start: number } | undefined {
    let best: { sequence: string; start: number } | undefined;
    let bestEnd = Infinity;
    for (const sequence of this.#sequences) {
      const start = text.indexOf(sequence);
      if (start < 0) continue;
      const end = start + sequence.length;
      if (end < bestEnd || (end === bestEnd && start < (best?.start ?? 0))) {
        best = { sequence, start };
        bestEnd = end;
      }
    }
    return best;
  }

  /** Length of the longest suffix of `text` with which a sequence begins. */
  #unsafeLength(text: string): number {
    let longest = 0;
    for (const sequence of this.#sequences) {
      for (let length = Math.min(sequence.length - 1, text.length); length > longest; length--) {
        if (text.endsWith(sequence.slice(0, length))) {
          longest = length;
          break;
        }
      }
    }
    return longest;
  }
}
