import type { platform } from '#platform';
import { ArgumentError } from '../util/errors.js';
import { openData, unreadable } from './line-scan.js';

type File = Awaited<ReturnType<typeof platform.openFile>>;

/** Files that are not text, by how they begin, a letter a byte. */
const others: readonly { readonly begins: RegExp; readonly is: string; readonly hint: string }[] = [
  { begins: /^version https:\/\/git-lfs\.github\.com\/spec\//, is: 'a pointer of Git LFS, not the file itself', hint: 'git lfs pull downloads it' },
  { begins: /^(\xff\xfe|\xfe\xff)/, is: 'UTF-16 (its byte-order mark says so)', hint: 'iconv -f UTF-16 -t UTF-8 converts it' },
  { begins: /^\x1f\x8b/, is: 'compressed with gzip', hint: 'gunzip it first' },
  { begins: /^\x28\xb5\x2f\xfd/, is: 'compressed with zstd', hint: 'unzstd it first' },
  { begins: /^\xfd7zXZ\0/, is: 'compressed with xz', hint: 'unxz it first' },
  { begins: /^BZh[1-9]1AY&SY/, is: 'compressed with bzip2', hint: 'bunzip2 it first' },
  { begins: /^PK\x03\x04/, is: 'a zip archive, as .docx and .epub are too', hint: 'unzip it, or save it as plain text' },
  { begins: /^PAR1[\0-\x1f]/, is: 'a Parquet file', hint: 'convert it to JSON lines' },
  { begins: /^%PDF-/, is: 'a PDF document', hint: 'pdftotext takes its text out' },
  { begins: /^(\x89PNG|\xff\xd8\xff|GIF8[79]a)/, is: 'a picture', hint: 'only text can be read' },
];

const utf8Mark = '\xef\xbb\xbf';
const headBytes = 4096;

/**
 * Opens a file of text.
 * @returns the file, and where its text begins: after a byte-order mark of UTF-8, where it has one
 * @throws ArgumentError where it cannot be read, or its first bytes are those of another kind of file
 */
export async function openText(operation: string, path: string): Promise<{ file: File; start: number }> {
  const file = await openData(operation, path);
  try {
    const head = await file.read(0, Math.min(headBytes, file.sizeBytes)).catch((cause: unknown) => {
      throw unreadable(operation, path, cause);
    });
    const letters = String.fromCharCode(...head.subarray(0, 64));
    const found = others.find(({ begins }) => begins.test(letters)) ?? unmarkedUtf16(head);
    if (found !== undefined) {
      const problem = { operation, argument: path, expected: 'a file of UTF-8 text', got: found.is, hint: found.hint };
      throw new ArgumentError(problem);
    }
    return { file, start: letters.startsWith(utf8Mark) ? utf8Mark.length : 0 };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** UTF-16 without a mark: of Western text every second byte is zero. It is valid UTF-8, and would be trained on unseen. */
function unmarkedUtf16(head: Uint8Array): { is: string; hint: string } | undefined {
  const zeros = [0, 0];
  head.forEach((byte, i) => {
    if (byte === 0) zeros[i % 2] = (zeros[i % 2] ?? 0) + 1;
  });
  const [even = 0, odd = 0] = zeros;
  const half = head.length / 2;
  if (head.length < 8 || Math.max(even, odd) < 0.8 * half || Math.min(even, odd) > 0.1 * half) return undefined;
  const order = odd > even ? 'LE' : 'BE';
  return { is: 'UTF-16 (every second byte is zero)', hint: `iconv -f UTF-16${order} -t UTF-8 converts it` };
}
