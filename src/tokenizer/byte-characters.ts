/**
 * The characters that stand for bytes in the vocabularies of byte-level tokenizers: printable ones for themselves, the others from U+0100
 * on, so that no token holds a blank. Source: GPT-2 (Radford et al. 2019), `bytes_to_unicode`.
 */
const bytes = Array.from({ length: 256 }, (_, byte) => byte);
const printable = bytes.filter((byte) => (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte !== 0xad));
const others = bytes.filter((byte) => !printable.includes(byte));

/** All bytes, in the order of their characters. */
export const bytesInOrder: readonly number[] = [...printable, ...others];

const characters = new Map<number, string>(bytesInOrder.map((byte, i) => [byte, String.fromCharCode(i < printable.length ? byte : 0x100 + i - printable.length)]));
const byteOf = new Map([...characters].map(([byte, character]) => [character, byte]));

/** A token of these bytes. */
export const tokenOfBytes = (content: Iterable<number>): string => Array.from(content, (byte) => characters.get(byte)).join('');

/** The bytes of a token; undefined where a character stands for none. */
export function bytesOfToken(token: string): Uint8Array | undefined {
  const content = Array.from(token, (character) => byteOf.get(character));
  return content.every((byte) => byte !== undefined) ? Uint8Array.from(content) : undefined;
}

/** A tokenizer.json of bytes: 256 tokens and no merges. */
export const byteDefinition = (): Record<string, unknown> => ({
  ...{ version: '1.0', added_tokens: [], normalizer: null, post_processor: null },
  pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false },
  decoder: { type: 'ByteLevel' },
  model: { type: 'BPE', vocab: Object.fromEntries(bytes.map((byte) => [tokenOfBytes([byte]), byte])), merges: [] },
});
