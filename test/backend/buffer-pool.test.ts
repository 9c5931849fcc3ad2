import { describe, expect, test } from 'vitest';
import { BufferPool } from '../../src/backend/cpu/buffer-pool.js';
import type { Engine } from '../../src/backend/cpu/engine.js';

/** A pool over an engine that counts what it was asked for, and has finished everything. */
function counted() {
  const asked = { bytes: 0, calls: 0 };
  let next = 64;
  const engine: Partial<Engine> = {
    allocate(sizeBytes) {
      asked.calls++;
      asked.bytes += sizeBytes;
      return (next += sizeBytes);
    },
    free: (_address, sizeBytes) => void (asked.bytes -= sizeBytes),
    completed: () => Infinity,
  };
  return { pool: new BufferPool(engine as Engine), asked };
}

const mebibyte = 2 ** 20;

/** A pass: `count` blocks at once, of one size, all given back. */
function pass(pool: BufferPool, count: number, sizeBytes: number): void {
  const blocks = Array.from({ length: count }, () => pool.take(sizeBytes, false));
  for (const block of blocks) pool.give(block, 0);
}

describe('memory that is given back to the system', () => {
  test.each([
    ['a few MiB', 40, 1],
    ['above the least that is kept', 100, 1],
    ['in large blocks', 12, 32],
  ])('a second pass takes nothing anew: %s', (_, count, mebibytes) => {
    const { pool, asked } = counted();
    pass(pool, count, mebibytes * mebibyte);
    const { calls } = asked;
    for (let i = 0; i < 5; i++) pass(pool, count, mebibytes * mebibyte);
    expect(asked.calls).toBe(calls);
    pool.freeAll();
    expect(asked.bytes).toBe(0);
  });

  test('passes of other sizes do not pile up', () => {
    const { pool, asked } = counted();
    for (const mebibytes of [100, 110, 120, 130, 140, 150]) pass(pool, 1, mebibytes * mebibyte);
    // One and a half times the most in use at once, and what is in use.
    expect(asked.bytes).toBeLessThanOrEqual(1.5 * 160 * mebibyte);
  });

  test('what was in use long ago goes back', () => {
    const { pool, asked } = counted();
    pass(pool, 10, 100 * mebibyte);
    expect(asked.bytes).toBeGreaterThanOrEqual(1000 * mebibyte);
    // Two spans of small blocks later nothing speaks for the large ones.
    for (let i = 0; i < 3 * 4096; i++) pass(pool, 1, mebibyte);
    expect(asked.bytes).toBeLessThanOrEqual(97 * mebibyte);
  });

  test('blocks in use stay', () => {
    const { pool, asked } = counted();
    const kept = Array.from({ length: 3 }, () => pool.take(100 * mebibyte, false));
    for (let i = 0; i < 3 * 4096; i++) pass(pool, 1, mebibyte);
    expect(asked.bytes).toBeGreaterThanOrEqual(300 * mebibyte);
    for (const block of kept) pool.give(block, 0);
    pool.freeAll();
    expect(asked.bytes).toBe(0);
  });
});
