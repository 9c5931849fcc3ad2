import { describe, expect, test } from 'vitest';
import { add, affine } from '../../src/ops/index.js';
import { scope, tensor, withoutScope, type Backend, type Program, type Tensor } from '../../src/tensor/index.js';
import { DisposedError } from '../../src/util/errors.js';
import { memoryKinds, openMemoryKind, useMemoryKind } from '../support/backends.js';

const size = 64;
const of = (backend: Backend, value: number): Tensor => withoutScope(() => tensor(backend, new Float32Array(size).fill(value), [size]));
const valuesOf = async (values: Tensor) => [...new Set(await values.data())];

/** y = 2x + 2·bias, captured. */
function captured(backend: Backend): { x: Tensor; bias: Tensor; y: Tensor; program: Program } {
  const [x, bias] = [of(backend, 1), of(backend, 10)];
  let y: Tensor | undefined;
  const program = backend.capture(() => {
    y = withoutScope(() => scope(() => affine(add(x, bias), 2)));
  });
  return { x, bias, y: y as unknown as Tensor, program };
}

describe.each(memoryKinds)('memory that a program uses, %s', (kind) => {
  const backend = useMemoryKind(kind);

  test.each(['x', 'bias', 'y'] as const)('that of %s stays until the program goes, and it is not replayed any more', async (freed) => {
    const { program, ...tensors } = captured(backend());
    program.replay();
    expect(await valuesOf(tensors.y)).toEqual([22]);
    const { liveBuffers } = backend().statistics();
    tensors[freed].dispose();
    expect(backend().statistics().liveBuffers).toBe(liveBuffers);

    // Nobody is given it: a second free block of this size would be taken first.
    const bystanders = Array.from({ length: 4 }, () => of(backend(), 7));
    const operand = { x: /'a' of binary, f32, 64 numbers/, bias: /'b' of binary, f32, 64 numbers/, y: /of (fill|affine), f32, 64 numbers/ }[freed];
    expect(() => {
      program.replay();
    }).toThrow(operand);
    expect(() => {
      program.replay();
    }).toThrow(DisposedError);
    for (const bystander of bystanders) expect(await valuesOf(bystander)).toEqual([7]);

    program.dispose();
    expect(backend().statistics().liveBuffers).toBe(liveBuffers - 1 + bystanders.length);
    for (const one of [...Object.values(tensors), ...bystanders]) one.dispose();
  });

  test('what is in the stream ends, though its tensors and its program are gone', async () => {
    const { program, x, bias, y } = captured(backend());
    const results: Promise<number[]>[] = [];
    for (const value of [1, 2, 3]) {
      x.write(new Float32Array(size).fill(value));
      program.replay();
      results.push(valuesOf(y));
    }
    for (const one of [x, bias, y]) one.dispose();
    program.dispose();
    const after = of(backend(), 5);
    expect(await Promise.all(results)).toEqual([[22], [24], [26]]);
    expect(await valuesOf(after)).toEqual([5]);
    after.dispose();
  });

  test('of two programs, the last one frees it; a program made later is not hurt', async () => {
    const { program, x, bias, y } = captured(backend());
    let z: Tensor | undefined;
    const second = backend().capture(() => {
      z = withoutScope(() => affine(y, 3));
    });
    const { liveBuffers } = backend().statistics();
    y.dispose();
    for (const one of [program, second]) {
      expect(() => {
        one.replay();
      }).toThrow(/of (fill|affine), f32, 64 numbers/);
    }
    program.dispose();
    expect(backend().statistics().liveBuffers).toBe(liveBuffers);
    const later = withoutScope(() => affine(x, 4));
    second.dispose();
    expect(backend().statistics().liveBuffers).toBe(liveBuffers);
    expect(await valuesOf(later)).toEqual([4]);
    for (const one of [x, bias, later, z]) one?.dispose();
  });

  test('a tensor that the step itself frees is the program’s, though it was made before', async () => {
    const x = of(backend(), 1);
    let y: Tensor | undefined;
    const program = backend().capture(() => {
      y = withoutScope(() => affine(x, 2));
      x.dispose();
      // Takes none of x's memory: a second replay would read what the first had written.
      scope(() => void affine(y as Tensor, 9));
    });
    for (let i = 0; i < 2; i++) program.replay();
    expect(await valuesOf(y as unknown as Tensor)).toEqual([2]);
    program.dispose();
    y?.dispose();
  });

  test('a step that fails leaves nothing behind', () => {
    const x = of(backend(), 1);
    expect(() =>
      backend().capture(() => {
        scope(() => void add(affine(x, 2), affine(x, 3)));
        x.dispose();
        throw new Error('the step failed');
      }),
    ).toThrow('the step failed');
    expect(backend().statistics().liveBuffers).toBe(0);
  });

  test('a program that was disposed says so, and may be disposed again', () => {
    const { program, ...tensors } = captured(backend());
    for (let i = 0; i < 2; i++) program.dispose();
    expect(() => {
      program.replay();
    }).toThrow(new DisposedError('replay: the program was disposed'));
    for (const one of Object.values(tensors)) one.dispose();
  });
});

describe.each(memoryKinds)('a backend that is closed, %s', (kind) => {
  test('ends what is queued and refuses the rest by name, from the moment of the call', async () => {
    const backend = await openMemoryKind(kind);
    const { program, x, bias, y } = captured(backend);
    program.replay();
    const queued = valuesOf(y);
    const closing = Promise.all([backend.close(), backend.close()]);
    const late: [name: string, call: () => unknown][] = [
      ['allocate', () => of(backend, 1)],
      ['affine', () => withoutScope(() => affine(x, 2))],
      ['write', () => x.write(new Float32Array(size))],
      ['replay', () => program.replay()],
      ['capture', () => backend.capture(() => undefined)],
    ];
    const refuse = async () => {
      for (const [name, call] of late) expect(call, name).toThrow(/the backend was closed/);
      for (const [, call] of late) expect(call).toThrow(DisposedError);
      await expect(x.data()).rejects.toThrow(new DisposedError('read: the backend was closed'));
      await expect(backend.synchronize()).rejects.toThrow(new DisposedError('synchronize: the backend was closed'));
    };
    await refuse();
    expect(await queued).toEqual([22]);
    await closing;
    await refuse();
    for (const one of [x, program, bias, y]) one.dispose();
    expect(backend.statistics().liveBuffers).toBe(0);
  });
});
