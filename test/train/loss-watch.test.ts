import { describe, expect, test } from 'vitest';
import { LossWatch } from '../../src/train/loss-watch.js';
import { Random } from '../../src/util/random.js';

function watching(losses: readonly number[]): LossWatch {
  const watch = new LossWatch();
  for (const loss of losses) watch.add(loss);
  return watch;
}

const random = new Random(4);
const noisy = (deviation: number) => Array.from({ length: 64 }, () => 2 + deviation * random.normal());

describe('LossWatch', () => {
  test.each([
    { name: 'quiet: a nat above the median', losses: noisy(1e-3), below: 2.95, above: 3.05 },
    { name: 'high: half as much again', losses: noisy(1e-3).map((loss) => 4 * loss), below: 11.9, above: 12.1 },
    { name: 'noisy: ten deviations', losses: noisy(0.4), below: 4.5, above: 7.5 },
  ])('$name', ({ losses, below, above }) => {
    const watch = watching(losses);
    expect(watch.spike(below, 128)).toBeNull();
    expect(watch.spike(above, 128)).toMatchObject({ median: expect.closeTo(losses.reduce((a, b) => a + b) / 64, 0) as number });
  });

  test('single outliers do not move the limit', () => {
    const losses = noisy(0.01);
    const limit = watching(losses).spike(100, 128)?.limit;
    const moved = watching(losses.map((loss, i) => (i % 8 === 0 ? 50 : loss))).spike(100, 128)?.limit;
    expect(Math.abs((moved ?? NaN) - (limit ?? NaN))).toBeLessThan(0.2);
  });

  test('a falling loss is none, nor is anything among few steps or few targets', () => {
    const watch = new LossWatch();
    for (let step = 0; step < 200; step++) {
      const loss = 5.5 * Math.exp(-step / 40) + 1;
      expect(watch.spike(loss, 1000)).toBeNull();
      watch.add(loss);
      if (step < 31) expect(watch.spike(1e9, 1000)).toBeNull();
    }
    expect(watch.spike(1e9, 127)).toBeNull();
    expect(watch.spike(1e9, 128)).not.toBeNull();
  });
});
