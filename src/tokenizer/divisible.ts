import { ArgumentError } from '../util/errors.js';
import type { TokenizerDefinition } from './hugging-face-schema.js';
import type { IdStream } from './tokenizer.js';

/**
 * Where a text may be cut: between a letter, number or punctuation mark and a blank. There, every pre-tokenizer of
 * `splitsAtBlanks` begins a new piece, whatever is before and after.
 */
const safeCut = /[\p{L}\p{N}\p{P}][ \t\r\n]/u;

/** Normalizers that leave blanks as they are and never look across one. */
const localNormalizers = new Set(['NFC', 'NFD', 'NFKC', 'NFKD', 'Lowercase']);
/** Pre-tokenizers that separate kinds of characters: a cut divides one of their pieces, no more. */
const separators = new Set(['Punctuation', 'Digits']);
/** Pre-tokenizers that never put a blank into one piece with the word before it. */
const splitters = new Set(['Whitespace', 'WhitespaceSplit', 'BertPreTokenizer']);
/** Models whose ids of a piece depend on this piece alone. Unigram joins unknown pieces. */
const localModels = new Set(['BPE', 'WordPiece', 'WordLevel']);

interface Component {
  readonly type: string;
  readonly [key: string]: unknown;
}

/** Whether the ids of a text are those of its parts, cut as `safeCut` says. */
export function isDivisible(definition: TokenizerDefinition, config: Readonly<Record<string, unknown>>): boolean {
  const { model, normalizer, pre_tokenizer: preTokenizer, added_tokens: added } = definition;
  if (!localModels.has(model.type) || (model as { fuse_unk?: unknown }).fuse_unk === true) return false;
  if (config['remove_space'] === true || config['do_lowercase_and_remove_accent'] === true) return false;
  // A token that reaches over a cut, or takes the blanks around it, would not be found or would not find them.
  if (added.some(({ content, ...token }) => safeCut.test(content.normalize('NFKC')) || token['lstrip'] === true || token['rstrip'] === true)) return false;
  return parts(normalizer, 'normalizers').every(({ type }) => localNormalizers.has(type)) && splitsAtBlanks(preTokenizer);
}

function splitsAtBlanks(preTokenizer: Component | null): boolean {
  const all = parts(preTokenizer, 'pretokenizers');
  const splitter = all.findIndex((one) => splitters.has(one.type) || splitsBytes(one));
  const before = all.slice(0, Math.max(0, splitter));
  // What comes after works within pieces; but Metaspace may treat the first piece of a text in its own way.
  return splitter >= 0 && before.every(({ type }) => separators.has(type)) && all.every(({ type }) => type !== 'Metaspace');
}

/** GPT-2's pattern, of which only the alternatives that begin with white space take more than one blank in front. */
const splitsBytes = (one: Component): boolean => one.type === 'ByteLevel' && one['use_regex'] !== false && one['add_prefix_space'] !== true;

function parts(component: Component | null, key: string): readonly Component[] {
  if (component === null) return [];
  return component.type === 'Sequence' && Array.isArray(component[key]) ? (component[key] as Component[]).flatMap((one) => parts(one, key)) : [component];
}

/** Less text than this is not worth a call. */
const pieceLength = 1 << 16;

/** V8's bound of a string's length, the smallest of all engines. */
const longestString = 2 ** 29 - 24;

/**
 * Encodes a text in parts.
 * @param encode the ids of a part, without special tokens
 * @param special the ids that go before and after a whole text
 */
export function dividedEncoder(encode: (text: string) => Int32Array, special: { readonly before: Int32Array; readonly after: Int32Array }): IdStream {
  let held: string[] = [];
  let length = 0;
  let begun = false;
  const part = (text: string): Int32Array => {
    const ids = encode(text);
    if (begun) return ids;
    begun = true;
    return joined(special.before, ids);
  };
  return {
    push(text) {
      held.push(text);
      length += text.length;
      if (length > longestString) {
        const got = `one of ${length} characters without a blank after a word`;
        throw new ArgumentError({ operation: 'encode', argument: 'text', expected: 'one that can be cut', got });
      }
      // Only the newest piece is searched, so that a text without a place to cut is not gone through again and again.
      const cut = length < pieceLength ? undefined : lastCut(text);
      if (cut === undefined) return new Int32Array(0);
      held[held.length - 1] = text.slice(0, cut);
      const whole = held.join('');
      held = [text.slice(cut)];
      length = text.length - cut;
      return part(whole);
    },
    flush() {
      const ids = joined(part(held.join('')), special.after);
      [held, length, begun] = [[], 0, false];
      return ids;
    },
  };
}

/** The last place where `text` may be cut. */
function lastCut(text: string): number | undefined {
  for (let at = text.length - 1; at > 0; at--) if (safeCut.test(text.slice(at - 1, at + 1))) return at;
  return undefined;
}

function joined(a: Int32Array, b: Int32Array): Int32Array {
  const all = new Int32Array(a.length + b.length);
  all.set(a);
  all.set(b, a.length);
  return all;
}
