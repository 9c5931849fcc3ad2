import { vi } from 'vitest';
import { platform } from '#platform';

/** What was read through `platform.openFile` since it was watched. */
export interface CountedReads {
  count: number;
  bytes: number;
  /** The longest read. */
  longest: number;
  opened: number;
  closed: number;
}

/** Counts the reads of files; the caller restores mocks. */
export function countReads(): CountedReads {
  const counted: CountedReads = { count: 0, bytes: 0, longest: 0, opened: 0, closed: 0 };
  const open = platform.openFile.bind(platform);
  vi.spyOn(platform, 'openFile').mockImplementation(async (path) => {
    const file = await open(path);
    counted.opened++;
    return {
      ...file,
      read(offset, length) {
        counted.count++;
        counted.bytes += length;
        counted.longest = Math.max(counted.longest, length);
        return file.read(offset, length);
      },
      close() {
        counted.closed++;
        return file.close();
      },
    };
  });
  return counted;
}
