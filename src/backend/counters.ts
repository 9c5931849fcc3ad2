import type { BackendStatistics } from '../tensor/index.js';

/** Counts for `Backend.statistics`. */
export class Counters {
  #buffers = 0;
  #bytes = 0;
  #peakBytes = 0;
  launches = 0;

  allocated(sizeBytes: number): void {
    this.#buffers++;
    this.#bytes += sizeBytes;
    this.#peakBytes = Math.max(this.#peakBytes, this.#bytes);
  }

  released(sizeBytes: number): void {
    this.#buffers--;
    this.#bytes -= sizeBytes;
  }

  statistics(): BackendStatistics {
    return { liveBuffers: this.#buffers, liveBytes: this.#bytes, peakBytes: this.#peakBytes, launches: this.launches };
  }

  reset(): void {
    this.launches = 0;
    this.#peakBytes = this.#bytes;
  }
}
