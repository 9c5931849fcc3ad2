import { describe, expect, test } from 'vitest';
import { ignoredTarget } from '../../src/data/index.js';
import { inductionHeads, selectiveCopying, TaskBatches, type Task } from '../../src/tasks/index.js';
import { freshStreams } from '../../src/tasks/task.js';

/** Rows of the first batches. */
function* examples(task: Task, count: number): Generator<{ inputs: number[]; targets: number[] }> {
  const source = new TaskBatches(task, { batchSize: 4, seed: 3 });
  for (let batch = 0; batch < count / 4; batch++) {
    const { inputs, targets } = source.next();
    for (let at = 0; at < inputs.length; at += task.length) {
      yield { inputs: [...inputs.subarray(at, at + task.length)], targets: [...targets.subarray(at, at + task.length)] };
    }
  }
}

test('selective copying: M tokens among noise, then asked for in their order', () => {
  const task = selectiveCopying({ length: 40, tokens: 5, vocabularySize: 9 });
  expect(task.length).toBe(45);
  const [places, values] = [new Set<number>(), new Set<number>()];
  for (const { inputs, targets } of examples(task, 400)) {
    const body = inputs.slice(0, 40);
    const tokens = body.filter((id) => id !== 0);
    expect(tokens).toHaveLength(5);
    for (const token of tokens) values.add(token);
    body.forEach((id, at) => id !== 0 && places.add(at));
    expect(inputs.slice(40)).toEqual(Array.from({ length: 5 }, () => 8));
    expect(targets).toEqual([...body.map(() => ignoredTarget), ...tokens]);
  }
  expect([...values].sort()).toEqual([1, 2, 3, 4, 5, 6, 7]);
  expect(places.size).toBe(40);
});

test('selective copying with no room for noise', () => {
  for (const { inputs, targets } of examples(selectiveCopying({ length: 5, tokens: 5 }), 8)) {
    expect(inputs.slice(0, 5)).toEqual(targets.slice(5));
  }
});

test('induction heads: the special token twice, and asked is what followed it', () => {
  const task = inductionHeads({ length: 20, vocabularySize: 6 });
  const [places, values] = [new Set<number>(), new Set<number>()];
  for (const { inputs, targets } of examples(task, 800)) {
    const first = inputs.indexOf(5);
    expect(inputs.lastIndexOf(5)).toBe(19);
    expect(inputs.filter((id) => id === 5)).toHaveLength(2);
    expect(targets).toEqual([...Array.from({ length: 19 }, () => ignoredTarget), inputs[first + 1]]);
    places.add(first);
    values.add(inputs[first + 1] ?? NaN);
  }
  // The token after the special one is never the one that asks.
  expect([...places].sort((a, b) => a - b)).toEqual(Array.from({ length: 18 }, (_, at) => at));
  expect([...values].sort()).toEqual([0, 1, 2, 3, 4]);
});

describe('batches', () => {
  const task = inductionHeads({ length: 12 });
  const take = (source: TaskBatches, count: number) => Array.from({ length: count }, () => source.next());
  const make = (seed: number, firstStream = 0) => new TaskBatches(task, { batchSize: 3, seed, firstStream });

  test('are given by their seed, and never repeat', () => {
    const batches = take(make(1), 20);
    expect(take(make(1), 20)).toEqual(batches);
    expect(take(make(2), 20)).not.toEqual(batches);
    expect(new Set(batches.map(({ inputs }) => inputs.join())).size).toBe(20);
    const fresh = take(make(1, freshStreams), 20).map(({ inputs }) => inputs.join());
    expect(batches.filter(({ inputs }) => fresh.includes(inputs.join()))).toEqual([]);
  });

  test('go on from a saved position', () => {
    const source = make(1);
    take(source, 7);
    const later = make(1);
    later.restore(JSON.parse(JSON.stringify(source.state())) as object);
    expect(take(later, 3)).toEqual(take(source, 3));
    for (const position of [-1, 0.5, 2 ** 31, '3', undefined]) {
      expect(() => later.restore({ position })).toThrow(/state\.position is .*; expected an integer from 0 to 2147483647/);
    }
    expect(later.state()).toEqual({ position: 10 });
  });
});

test.each([
  { make: () => selectiveCopying({ length: 4, tokens: 5 }), message: /tokens is 5; expected an integer from 1 to 4/ },
  { make: () => selectiveCopying({ length: 4, tokens: 2, vocabularySize: 2 }), message: /vocabularySize is 2; expected an integer ≥ 3/ },
  { make: () => inductionHeads({ length: 2 }), message: /length is 2; expected an integer ≥ 3/ },
])('sizes that do not fit: $message', ({ make, message }) => {
  expect(make).toThrow(message);
});
