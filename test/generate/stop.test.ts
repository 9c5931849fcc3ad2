import { describe, expect, it } from 'vitest';
import { StopMatcher } from '../../src/generate/stop.js';
import { ArgumentError } from '../../src/util/errors.js';
import { Random } from '../../src/util/random.js';

/** What is let through, and what stopped it. */
function run(sequences: string[], pieces: string[]): { pieces: string[]; stopped: string | undefined } {
  const matcher = new StopMatcher(sequences);
  return { pieces: [...pieces.map((piece) => matcher.push(piece)), matcher.flush()], stopped: matcher.stopped };
}

/** The slow version: adds one character at a time and looks whether the text so far ends with a sequence. */
function slow(sequences: string[], text: string): { text: string; stopped: string | undefined } {
  for (let end = 1; end <= text.length; end++) {
    const found = sequences.filter((sequence) => text.slice(0, end).endsWith(sequence));
    const [longest] = found.sort((a, b) => b.length - a.length);
    if (longest !== undefined) return { text: text.slice(0, end - longest.length), stopped: longest };
  }
  return { text, stopped: undefined };
}

describe('StopMatcher', () => {
  it('lets everything through at once where there are no sequences', () => {
    expect(run([], ['a', 'b'])).toEqual({ pieces: ['a', 'b', ''], stopped: undefined });
  });

  it('holds back only what may become a sequence', () => {
    const pieces = ['Hello', ' wor', 'ld\n', 'Us', 'ual', '\n', '\nUser', ':', ' more'];
    expect(run(['\nUser:'], pieces)).toEqual({
      pieces: ['Hello', ' wor', 'ld', '', '\nUsual', '', '\n', '', '', ''],
      stopped: '\nUser:',
    });
  });

  it('finds a sequence inside a piece, and one over several', () => {
    expect(run(['STOP'], ['a STOP b'])).toEqual({ pieces: ['a ', ''], stopped: 'STOP' });
    expect(run(['STOP'], ['a S', 'T', 'O', 'P', 'b'])).toEqual({ pieces: ['a ', '', '', '', '', ''], stopped: 'STOP' });
  });

  it('gives back what was held when the text ends', () => {
    expect(run(['STOP'], ['a STO'])).toEqual({ pieces: ['a ', 'STO'], stopped: undefined });
  });

  it('finds a sequence that begins inside a false start', () => {
    expect(run(['aab'], ['aa', 'ab'])).toEqual({ pieces: ['', 'a', ''], stopped: 'aab' });
  });

  it('takes the sequence that ends first, the longest of those', () => {
    expect(run(['abcd', 'bc'], ['xabcd']).stopped).toBe('bc');
    expect(run(['c', 'bc', 'abc'], ['xabcd'])).toEqual({ pieces: ['x', ''], stopped: 'abc' });
  });

  it('does not depend on how the text is cut', () => {
    const random = new Random(6);
    const word = (length: number): string => Array.from({ length }, () => 'ab\n'[random.integer(3)]).join('');
    for (let i = 0; i < 2000; i++) {
      const sequences = Array.from({ length: random.integer(4) }, () => word(1 + random.integer(5)));
      const pieces = Array.from({ length: random.integer(12) }, () => word(random.integer(4)));
      const result = run(sequences, pieces);
      expect({ text: result.pieces.join(''), stopped: result.stopped }).toEqual(slow(sequences, pieces.join('')));
    }
  });

  it('refuses an empty sequence', () => {
    expect(() => new StopMatcher(['a', ''])).toThrow(ArgumentError);
    expect(() => new StopMatcher(['a', ''])).toThrow('StopMatcher: sequences[1] is empty; expected some text.');
  });
});
