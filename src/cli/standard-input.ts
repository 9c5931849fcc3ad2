import { ElapidError } from '../util/errors.js';
import { describeByte, utf8Hint, utf8Length } from '../util/utf8.js';

/**
 * All of standard input, as text.
 * @param options.patienceMs how long to wait for the first byte (default: for ever)
 * @returns undefined where no byte came in that time, as from a pipe that nobody writes to or closes
 * @throws ElapidError where it cannot be read, or is not UTF-8
 */
export async function readStandardInput({ patienceMs }: { readonly patienceMs?: number } = {}): Promise<string | undefined> {
  const { stdin } = process;
  const chunks: Buffer[] = [];
  const ended = await new Promise<boolean>((resolve, reject) => {
    const timer = patienceMs === undefined ? undefined : setTimeout(resolve, patienceMs, false);
    stdin
      .on('data', (chunk: Buffer) => {
        clearTimeout(timer);
        chunks.push(chunk);
      })
      .on('end', () => {
        clearTimeout(timer);
        resolve(true);
      })
      .on('error', (cause) => {
        clearTimeout(timer);
        reject(new ElapidError(`standard input cannot be read (${cause.message})`, { cause }));
      });
  });
  // Else an open pipe would keep the process alive.
  stdin.destroy();
  return ended ? decode(Buffer.concat(chunks)) : undefined;
}

function decode(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    const whole = utf8Length(bytes);
    const [problem, hint] =
      whole < bytes.length
        ? [`is not UTF-8 (${describeByte(whole, bytes[whole])})`, utf8Hint]
        : [`is too long for a prompt: ${bytes.length} bytes`, 'a shorter text'];
    throw new ElapidError(`standard input ${problem}; expected a prompt as UTF-8 text. Hint: ${hint}`, { cause });
  }
}
