import { expect, test } from 'vitest';
import { TinyRun } from '../../support/training.js';
import type { Subject } from './subject.js';

/** A text of seven ids in turn: nothing of it is left to guess once that is learnt. */
const text = Uint8Array.from({ length: 400 }, (_, i) => (3 * i) % 7);

/** A model learns. */
export function checkTraining({ row, variant, backend }: Subject): void {
  test('learns what comes in turn', async () => {
    const run = new TinyRun(backend(), { model: row.make(backend(), variant.options), text, options: { accumulation: 1 } });
    const losses = (await run.steps(20)).map(({ loss }) => loss);
    run.dispose();
    // A guess among 23 ids costs 3.1 nats, one among seven 1.9.
    expect(losses[0]).toBeGreaterThan(2.5);
    expect(losses.at(-1)).toBeLessThan(1);
  });
}
