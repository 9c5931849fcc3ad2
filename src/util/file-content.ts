/** Bytes from a file's beginning that `describeForeignContent` wants to see: more tell it nothing. */
export const foreignContentBytes = 512;

const again = 'Hint: download or copy the file again, and compare its size with the original’s.';

const startsOf: readonly (readonly [start: string, what: string])[] = [
  [
    'version https://git-lfs.github.com/spec/',
    'is a pointer of Git LFS: the file itself was not downloaded. Hint: run `git lfs install`, then `git lfs pull` in its folder.',
  ],
  ['\x1f\x8b', 'is compressed with gzip. Hint: unpack it first, with gunzip.'],
  ['GGUF', "is in GGUF, llama.cpp's format. Hint: give it a name that ends in .gguf."],
  ['\x89HDF\r\n', 'is in HDF5, the format of TensorFlow and Keras. Hint: take the safetensors or PyTorch checkpoint of the model.'],
];

/**
 * What a file is that was saved under a name that promises something else, as the rest of a sentence about it, with a hint;
 * undefined where its beginning says nothing of the kind.
 * @param start the first bytes, `foreignContentBytes` of them where the file has as many
 * @param sizeBytes of the whole file
 */
export function describeForeignContent(start: Uint8Array, sizeBytes: number): string | undefined {
  if (sizeBytes === 0) return `is empty (0 bytes). ${again}`;
  const text = new TextDecoder('latin1').decode(start.subarray(0, foreignContentBytes));
  const known = startsOf.find(([begin]) => text.startsWith(begin));
  if (known !== undefined) return known[1];
  const [line = ''] = text.trimStart().split('\n', 1);
  if (/^<(!doctype html|html|\?xml|head|body)\b/i.test(line)) {
    return `is a web page, not the file it is named after: the server answered with a page, as it does where a login is needed or the address is wrong. ${again}`;
  }
  // What servers answer instead of a file: "Entry not found", {"error":"Repository not found"}.
  if (sizeBytes <= foreignContentBytes && /^["{]?[\w":\s]*\b(not found|denied|unauthorized|forbidden|invalid username|restricted|gated|error)\b/i.test(line)) {
    return `is an error message of a server (${line.trim().slice(0, 80)}), not the file it is named after. ${again}`;
  }
  return undefined;
}
