/** CRC-32, as zip archives have it, or XXH3 of 128 bits: for files that this package writes, and fingerprints. */
export type ChecksumAlgorithm = 'crc32' | 'xxh128';

/** The checksum of bytes that come piece by piece. */
export interface RunningChecksum {
  update(piece: Uint8Array): void;
  /** In hexadecimal: 8 digits of a CRC-32, 32 of an XXH128. Called once. */
  digest(): string;
}

/** Hashers that wait for the next checksum: making one costs as much as hashing some hundred kilobytes. */
const idle = new Map<ChecksumAlgorithm, (RunningChecksum & { init(): unknown })[]>();

/** Begins a checksum. Any number may be under way at once. */
export async function startChecksum(algorithm: ChecksumAlgorithm): Promise<RunningChecksum> {
  // Imported where it is needed: most commands that say something about a file never hash it.
  const { createCRC32, createXXHash128 } = await import('hash-wasm');
  const waiting = idle.get(algorithm) ?? [];
  idle.set(algorithm, waiting);
  const hasher = waiting.pop() ?? (await (algorithm === 'crc32' ? createCRC32() : createXXHash128()));
  hasher.init();
  return {
    update: (piece) => {
      hasher.update(piece);
    },
    digest: () => {
      const value = hasher.digest();
      waiting.push(hasher);
      return value;
    },
  };
}

/** The checksum of bytes, whole or in pieces, in hexadecimal. */
export async function checksumOf(algorithm: ChecksumAlgorithm, bytes: Uint8Array | Iterable<Uint8Array>): Promise<string> {
  const running = await startChecksum(algorithm);
  for (const piece of bytes instanceof Uint8Array ? [bytes] : bytes) running.update(piece);
  return running.digest();
}
