import { ArgumentError } from '../util/errors.js';
import type { IdStream, TextStream, Tokenizer } from './tokenizer.js';

/**
 * The tokenizer without a vocabulary file: ids are the UTF-8 bytes of the text, 0 to 255.
 *
 * Source: MambaByte (Wang et al. 2024, section 2). There is no id that begins or ends a text.
 */
export class ByteTokenizer implements Tokenizer {
  readonly vocabularySize = 256;

  /** The UTF-8 bytes of `text`; an unpaired surrogate becomes U+FFFD. */
  encode(text: string): Int32Array {
    return new Int32Array(new TextEncoder().encode(text));
  }

  encodeStream(): IdStream {
    return { push: (text) => this.encode(text), flush: () => new Int32Array(0) };
  }

  /** The text of the bytes `ids`. @throws ArgumentError where an id is not a byte */
  decode(ids: ArrayLike<number>): string {
    const bytes = new Uint8Array(ids.length);
    for (let i = 0; i < ids.length; i++) bytes[i] = byteOf(ids[i] as number);
    return utf8Decoder().decode(bytes);
  }

  stream(): TextStream {
    const decoder = utf8Decoder();
    const byte = new Uint8Array(1);
    return {
      push(id) {
        byte[0] = byteOf(id);
        return decoder.decode(byte, { stream: true });
      },
      flush: () => decoder.decode(),
    };
  }

  tokenBytes(): Uint8Array[] {
    return Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte));
  }
}

/** Without `ignoreBOM` the decoder would swallow a U+FEFF at the start, which is text like any other here. */
function utf8Decoder(): TextDecoder {
  return new TextDecoder('utf-8', { ignoreBOM: true });
}

function byteOf(id: number): number {
  if (Number.isInteger(id) && id >= 0 && id < 256) return id;
  const got = String(id);
  throw new ArgumentError({ operation: 'decode', argument: 'id', expected: 'a byte, 0 to 255', got });
}
