import { describe, expect, test } from 'vitest';
import { openBackend } from '../../src/backend/open.js';
import { openGpuDevice } from '../../src/backend/webgpu/device.js';
import { WebGpuBackend } from '../../src/backend/webgpu/webgpu-backend.js';
import { add, affine, contiguous, split } from '../../src/ops/index.js';
import { copyInto } from '../../src/ops/view/view.js';
import { empty, scope, tensor, type Tensor } from '../../src/tensor/index.js';
import { BackendError, DisposedError } from '../../src/util/errors.js';
import { gpuIsHere, useBackend } from '../support/backends.js';

describe.runIf(gpuIsHere)('the webgpu stream', () => {
  const backend = useBackend('webgpu', { poison: false });
  const counting = (size: number) => Float32Array.from({ length: size }, (_, i) => i);

  test('values go there and back, of odd sizes and from odd places', async () => {
    const x = tensor(backend(), counting(105), [5, 21]);
    const parts = split(x, [2, 19]) as [Tensor, Tensor];
    const dense = contiguous(parts[1]);
    expect(await parts[1].data()).toEqual(await dense.data());
    expect([...(await dense.data())].slice(0, 21)).toEqual([...counting(21).slice(2), 23, 24]);
    for (const made of [x, ...parts, dense]) made.dispose();
  });

  test('a tensor may be overwritten and freed right after its values were asked for', async () => {
    const x = tensor(backend(), [1, 2, 3], [3]);
    const before = x.data();
    x.write([4, 5, 6]);
    const after = x.data();
    x.dispose();
    expect([[...(await before)], [...(await after)]]).toEqual([[1, 2, 3], [4, 5, 6]]);
  });

  test('a launch may write beside what it reads, in one buffer', async () => {
    const x = tensor(backend(), counting(16), [16]);
    const [from, to] = [x.aliased([5], 1), x.aliased([5], 8)];
    copyInto(from, to);
    expect([...(await x.data())]).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 1, 2, 3, 4, 5, 13, 14, 15]);
    for (const made of [x, from, to]) made.dispose();
  });

  test('a launch on the same memory with another number is another launch, captured or not', async () => {
    const [x, y] = [tensor(backend(), [1, 2], [2]), empty(backend(), [3, 2])];
    const rows = [0, 1, 2].map((row) => y.aliased([2], 2 * row));
    const scaled = (scale: number, to: Tensor) => {
      scope(() => {
        copyInto(affine(x, scale, scale), to);
      });
    };
    scaled(2, rows[0] as Tensor);
    scaled(0.5, rows[1] as Tensor);
    const program = backend().capture(() => {
      scaled(0.25, rows[2] as Tensor);
    });
    program.replay();
    expect([...(await y.data())]).toEqual([4, 6, 1, 1.5, 0.5, 0.75]);
    program.dispose();
    for (const made of [x, y, ...rows]) made.dispose();
  });

  test('a captured step is replayed with what its inputs hold then, in memory of its own', async () => {
    const [x, y] = [tensor(backend(), [1, 2], [2]), empty(backend(), [2])];
    const step = () => {
      scope(() => {
        copyInto(add(add(x, x), x), y);
      });
    };
    step(); // compiles
    const program = backend().capture(step);
    x.write([10, 20]);
    program.replay();
    const first = y.data();
    x.write([100, 200]);
    program.replay();
    program.replay();
    expect([[...(await first)], [...(await y.data())]]).toEqual([[30, 60], [300, 600]]);
    expect(program.launches).toBe(3);
    program.dispose();
    for (const made of [x, y]) made.dispose();
  });

  test('memory that a captured step uses is nobody else’s while the program lives', async () => {
    const [x, y] = [tensor(backend(), [1, 2], [2]), empty(backend(), [2])];
    const program = backend().capture(() => {
      scope(() => {
        copyInto(add(x, x), y);
      });
    });
    program.replay();
    const before = y.data();
    y.dispose();
    const bystanders = [1, 2, 3].map((value) => tensor(backend(), [value, value], [2]));
    expect(() => {
      program.replay();
    }).toThrow(/'destination' of copy_rows, f32, 2 numbers/);
    expect([...(await before)]).toEqual([2, 4]);
    for (const [i, bystander] of bystanders.entries()) expect([...(await bystander.data())]).toEqual([i + 1, i + 1]);
    expect(backend().statistics().liveBuffers).toBe(5);
    program.dispose();
    program.dispose();
    expect(backend().statistics().liveBuffers).toBe(4);
    for (const made of [x, ...bystanders]) made.dispose();
  });
});

describe.runIf(gpuIsHere)('a webgpu device', () => {
  test('that is lost makes every later call a BackendError, and a new one serves', async () => {
    const gpu = await openGpuDevice();
    const backend = new WebGpuBackend(gpu);
    const x = tensor(backend, [1, 2], [2]);
    await x.data();
    gpu.device.destroy();
    await gpu.device.lost;
    await expect(x.data()).rejects.toThrow(/the device was lost.*Hint: open a backend again/);
    expect(() => add(x, x)).toThrow(BackendError);
    await backend.close();

    const again = await openBackend('webgpu');
    const y = tensor(again, [3], [1]);
    expect([...(await y.data())]).toEqual([3]);
    y.dispose();
    await again.close();
  });

  test('that is closed ends what is queued and refuses the rest', async () => {
    const backend = await openBackend('webgpu');
    const x = tensor(backend, [1, 2], [2]);
    const y = add(x, x);
    const program = backend.capture(() => {
      copyInto(x, y);
    });
    const queued = y.data();
    const closing = Promise.all([backend.close(), backend.close()]);
    const late = [() => tensor(backend, [1], [1]), () => add(x, x), () => x.write([3, 4]), () => program.replay()];
    for (const call of late) expect(call).toThrow(/: the backend was closed/);
    for (const call of late) expect(call).toThrow(DisposedError);
    await expect(x.data()).rejects.toThrow(new DisposedError('read: the backend was closed'));
    expect([...(await queued)]).toEqual([2, 4]);
    await closing;
    for (const one of [program, x, y]) one.dispose();
    expect(backend.statistics().liveBuffers).toBe(0);
  });

  test('says what is too large for one buffer', async () => {
    const gpu = await openGpuDevice();
    const backend = new WebGpuBackend(gpu);
    const most = gpu.device.limits.maxBufferSize;
    expect(() => empty(backend, [most / 4 + 1])).toThrow(`allocate: ${most + 4} bytes are more than one buffer may have here (${most})`);
    await backend.close();
  });

  test('has no f16 where the adapter has none, and says so', async () => {
    const gpu = await openGpuDevice();
    const backend = new WebGpuBackend({ ...gpu, features: { ...gpu.features, f16: false } });
    expect(() => empty(backend, [2], 'f16')).toThrow(/has no f16/);
    await backend.close();
  });
});
