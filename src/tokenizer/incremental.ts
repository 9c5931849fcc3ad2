import type { TextStream } from './tokenizer.js';

const unfinished = /\uFFFD+$/;

/**
 * A text stream over any `decode`: decodes the ids since the last safe point again with each id, and gives what is new.
 *
 * Decoders put U+FFFD where bytes are not a whole character, so the text is safe up to a run of U+FFFD at its end. At a
 * safe point the last id is kept as context, because decoders treat the first id of a sequence in a special way
 * (SentencePiece drops its space); a whole character before it cannot change what follows.
 */
export function incrementalDecoder(decode: (ids: readonly number[]) => string): TextStream {
  let ids: number[] = [];
  let shown = 0;
  return {
    push(id) {
      ids.push(id);
      const text = decode(ids);
      const safe = text.replace(unfinished, '');
      const fresh = safe.slice(shown);
      if (safe.length < text.length) {
        shown = Math.max(shown, safe.length);
      } else {
        ids = [id];
        shown = decode(ids).length;
      }
      return fresh;
    },
    flush() {
      const rest = ids.length === 0 ? '' : decode(ids).slice(shown);
      ids = [];
      shown = 0;
      return rest;
    },
  };
}
