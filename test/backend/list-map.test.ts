import { expect, test } from 'vitest';
import { ListMap } from '../../src/backend/webgpu/list-map.js';

test('lists that differ in one number, in order or in length are different keys', () => {
  const lists = [[], [0], [0, 0], [1, 2], [2, 1], [1, 2, 3], [1, 2 ** 32 + 2], [1, -1], [1, 2 ** 32 - 1], [2 ** 40, 0], [2 ** 41, 0]];
  const map = new ListMap<number>();
  lists.forEach((list, i) => {
    expect(map.get(list)).toBeUndefined();
    map.add(list, i);
  });
  expect(lists.map((list) => map.get([...list]))).toEqual(lists.map((_, i) => i));
  expect(map.size).toBe(lists.length);
  map.clear();
  expect([map.size, map.get([1, 2])]).toEqual([0, undefined]);
});
