import { describe, expect, test } from 'vitest';
import { affine } from '../../src/ops/elementwise/elementwise.js';
import { contiguous, reshape, split } from '../../src/ops/view/view.js';
import { keep, scope, tensor, withoutScope, type Tensor } from '../../src/tensor/index.js';
import { useBackend } from '../support/backends.js';

describe('scope', () => {
  const backend = useBackend('reference');
  const live = () => backend().statistics().liveBuffers;
  const made = () => tensor(backend(), [1, 2, 3, 4], [2, 2]);

  test('frees what is not returned', () => {
    const kept = scope(() => {
      affine(made(), 2);
      return { list: [made()], map: new Map([['a', made()]]) };
    });
    expect(live()).toBe(2);
    kept.list[0]?.dispose();
    kept.map.get('a')?.dispose();
    expect(live()).toBe(0);
  });

  test('gives what is returned to the scope around it', () => {
    scope(() => {
      const inner = scope(made);
      expect(inner.disposed).toBe(false);
    });
    expect(live()).toBe(0);
  });

  test('frees everything when the body throws', () => {
    expect(() =>
      scope(() => {
        made();
        throw new Error('no');
      }),
    ).toThrow('no');
    expect(live()).toBe(0);
  });

  test('keep and withoutScope let tensors outlive it', () => {
    const outside: Tensor[] = [];
    scope(() => {
      outside.push(keep(made()), withoutScope(made));
    });
    expect(live()).toBe(2);
    for (const one of outside) one.dispose();
  });

  test('refuses an async body', () => {
    expect(() => scope(() => Promise.resolve(1))).toThrow(/async/);
  });

  test('views share memory and free it with the last of them', async () => {
    const x = withoutScope(made);
    const [left, right] = withoutScope(() => split(x, [1, 1])) as [Tensor, Tensor];
    x.dispose();
    expect(live()).toBe(1);
    expect([...(await right.data())]).toEqual([2, 4]);
    const dense = withoutScope(() => contiguous(left));
    const column = withoutScope(() => reshape(left, [2]));
    expect([...(await column.data())]).toEqual([1, 3]);
    for (const one of [left, right, dense, column]) one.dispose();
    expect(live()).toBe(0);
  });

  test('errors name the operation, what was expected and what came', () => {
    scope(() => {
      expect(() => reshape(made(), [3, -1])).toThrow('reshape: shape is [3,-1]; expected 4 elements, as in [2,2].');
      expect(() => split(made(), [1, 2])).toThrow(/split: sizes is \[1,2\]; expected parts of the last extent of \[2,2\]/);
      expect(() => tensor(backend(), [1, 2], [3])).toThrow(/tensor: values is 2 numbers; expected 3 numbers for shape \[3\]/);
    });
  });
});
