/**
 * How many bytes at the beginning of `bytes` are whole characters of UTF-8: `bytes.length` where all are, else the position of
 * the first byte that does not belong to one.
 */
export function utf8Length(bytes: Uint8Array): number {
  const decodes = (length: number, stream: boolean): boolean => {
    try {
      new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(0, length), { stream });
      return true;
    } catch {
      return false;
    }
  };
  // What follows cannot mend what is wrong already, so the longest beginning that decodes is found by halving.
  let [good, bad] = [0, bytes.length + 1];
  while (bad - good > 1) {
    const middle = Math.floor((good + bad) / 2);
    if (decodes(middle, true)) good = middle;
    else bad = middle;
  }
  while (!decodes(good, false)) good--;
  return good;
}

/** `byte 12 is 0xe9`: where bytes stop being UTF-8, in words. */
export const describeByte = (offset: number, byte = 0): string => `byte ${offset} is 0x${byte.toString(16).padStart(2, '0')}`;

/** What to do with a text that is not UTF-8. */
export const utf8Hint = 'iconv -f WINDOWS-1252 -t UTF-8 converts Western European text';
