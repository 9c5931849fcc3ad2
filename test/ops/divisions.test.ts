import { describe, expect, test } from 'vitest';
import { ReferenceBackend } from '../../src/backend/reference/reference-backend.js';
import { operationCases } from '../../src/ops/all-cases.js';
import { normal } from '../../src/ops/cases.js';
import { scaleInto } from '../../src/ops/cross-entropy/kernels.js';
import { accumulate } from '../../src/ops/elementwise/kernels.js';
import { kernels } from '../../src/ops/kernels.js';
import { packWeight, unpackWeight } from '../../src/ops/packed/packed.js';
import { firstHalf, launch, launchHalves, packedDTypes, scope, tensor, type BufferView, type Kernel } from '../../src/tensor/index.js';
import { copyInto } from '../../src/ops/view/view.js';
import { Random } from '../../src/util/random.js';
import { runCase } from '../support/cases.js';
import { isRareOnCpu } from '../support/rare-cases.js';

/** What a kernel is launched with. */
type Launch = readonly [kernel: Kernel, views: readonly (BufferView | null)[], parameters: readonly number[]];

interface Memory {
  readonly dtype: BufferView['buffer']['dtype'];
  readonly size: number;
  readonly values: Float64Array | Int32Array | Uint8Array;
}

/** The divisions that a launch has something to divide for. */
const divisionsOf = ([kernel, , parameters]: Launch) => {
  const names = Object.keys(kernel.parameters);
  const divisions = kernel.divisions?.(Object.fromEntries(names.map((name, i) => [name, parameters[i] ?? 0]))) ?? [];
  return divisions.filter((division) => firstHalf(parameters[names.indexOf(division.along)] ?? 0, division) > 0);
};

/** Launches are made of halves of halves along one of their kernel's parameters. */
class HalvingBackend extends ReferenceBackend {
  #levels = 2;
  constructor(
    readonly kernel: Kernel,
    readonly along: string,
  ) {
    super({ poison: true });
  }

  override launch(...all: Launch): void {
    const [kernel, views, parameters] = all;
    const division = kernel === this.kernel && this.#levels > 0 ? divisionsOf(all).find(({ along }) => along === this.along) : undefined;
    if (division === undefined) {
      super.launch(...all);
      return;
    }
    this.#levels--;
    const within = { allocate: this.allocate.bind(this), release: this.release.bind(this), launch: this.#checked(views) };
    launchHalves(within, kernel, division, views, parameters);
    this.#levels++;
  }

  /** Launches whose views of a whole's buffers must be parts of the whole's views. */
  #checked(wholes: readonly (BufferView | null)[]) {
    return (...all: Launch) => {
      const [kernel, views] = all;
      if (kernel === this.kernel) {
        views.forEach((view, i) => {
          const whole = wholes[i];
          if (!view || view.buffer !== whole?.buffer) return;
          const { offset, size } = view;
          expect(Number.isInteger(offset) && Number.isInteger(size) && size >= 0, `${kernel.name}: whole elements`).toBe(true);
          expect(offset, `${kernel.name}: offset`).toBeGreaterThanOrEqual(whole.offset);
          expect(offset + size, `${kernel.name}: end`).toBeLessThanOrEqual(whole.offset + whole.size);
        });
      }
      this.launch(...all);
    };
  }
}

/** Does every launch also in parts, on copies of its memory, and compares. */
class ComparingBackend extends ReferenceBackend {
  readonly divided = new Map<string, Set<string>>();

  override launch(...all: Launch): void {
    const [kernel] = all;
    const divisions = divisionsOf(all);
    const parts = divisions.map(({ along }) => ({ along, memory: runOnCopies(new HalvingBackend(kernel, along), all) }));
    const whole = divisions.length === 0 ? [] : runOnCopies(new ReferenceBackend(), all);
    for (const { along, memory } of parts) {
      memory.forEach(({ values }, i) => {
        expect(difference(values, whole[i]?.values ?? []), `${kernel.name} along ${along}`).toBeLessThan(1e-12);
      });
      this.divided.set(kernel.name, (this.divided.get(kernel.name) ?? new Set()).add(along));
    }
    super.launch(...all);
  }
}

/** The launch's buffers, each copied once, after it. */
function runOnCopies(backend: ReferenceBackend, [kernel, views, parameters]: Launch): Memory[] {
  const copies = new Map<BufferView['buffer'], Memory>();
  for (const view of views) {
    if (view !== null) copies.set(view.buffer, { ...(view.buffer as Memory), values: (view.buffer as Memory).values.slice() });
  }
  backend.launch(kernel, views.map((view) => view && { ...view, buffer: copies.get(view.buffer) ?? view.buffer }), parameters);
  expect(backend.statistics().liveBuffers, `${kernel.name}: live buffers`).toBe(0);
  return [...copies.values()];
}

/** The largest difference, relative to the largest number; what neither has written is equal. */
function difference(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  let [most, largest] = [0, 0];
  for (let i = 0; i < expected.length; i++) {
    const [a = NaN, b = NaN] = [actual[i], expected[i]];
    if (Object.is(a, b) || a === b) continue;
    if (!Number.isFinite(a) || !Number.isFinite(b)) return Infinity;
    most = Math.max(most, Math.abs(a - b));
    largest = Math.max(largest, Math.abs(b));
  }
  return most === 0 ? 0 : most / largest;
}

/** Which kernels cannot be divided, and why that is so. */
const undivided: Readonly<Record<string, string>> = {
  advance: 'adds to one number a sequence',
  fft_table: 'makes the roots of one transform, 8 bytes a point',
  counted_scale: 'reads targets alone, 4 bytes a token',
  global_norm: 'its kernel for GPUs binds its input in parts',
  sample_tokens: 'draws for the sequences of a decoding step',
  block_step: 'works on the sequences of a decoding step',
  ssd_block_enter: 'the same',
  ssd_block_leave: 'the same',
  rms_norm_linear_matrices: 'is divided as rms_norm_linear, of weights in f16, which the reference backend has not',
  group_tokens: 'reads choices alone, 4 bytes a token',
  router_losses: 'reads a number for each token and expert, of which there are fewer than a token has features',
  grouped_product: 'where groups begin is known to the device alone',
  grouped_weights: 'where groups begin is known to the device alone',
};

describe('launches in parts', () => {
  const backend = new ComparingBackend({ poison: true });

  const all = Object.entries(operationCases).flatMap(([folder, cases]) => cases.map((operationCase) => ({ folder, operationCase })));
  test.each(all.filter(({ folder, operationCase }) => !isRareOnCpu(`${folder} / ${operationCase.name}`)))(
    '$folder / $operationCase.name',
    async ({ operationCase }) => {
      await runCase(backend, operationCase);
    },
  );

  test('of kernels that no case launches', () => {
    const random = new Random(5);
    const of = (...shape: number[]) => {
      const { values } = normal(random, shape);
      return tensor(backend, values, shape);
    };
    scope(() => {
      launch(accumulate, { x: of(7, 9), y: of(7, 12) }, { rows: 7, columns: 9, xPitch: 9, yPitch: 12 });
      launch(accumulate, { x: of(9), y: of(9) }, { rows: 1, columns: 9, xPitch: 9, yPitch: 9 });
      launch(scaleInto, { factor: of(1), scale: of(1), values: of(300), sums: of(300) }, { count: 300, accumulate: true });
      copyInto(of(300), of(300));
      for (const dtype of packedDTypes) unpackWeight(packWeight(of(70, 40), dtype));
    });
  });

  test('have been tried for every kernel, or it is said why not', () => {
    const all = kernels.map(({ name }) => name);
    expect(new Set([...backend.divided.keys(), ...Object.keys(undivided)])).toEqual(new Set(all));
    expect([...backend.divided.keys()].filter((name) => name in undivided)).toEqual([]);
    expect(Object.fromEntries([...backend.divided].map(([name, along]) => [name, [...along].sort()]))).toMatchObject({
      gemm: ['batch', 'k', 'm', 'n'],
      linear_int4: ['m', 'n'],
      rms_norm_linear: ['outputs', 'rows'],
      reduce_sum: ['length', 'outer'],
      copy_rows: ['columns', 'rows'],
    });
  });
});

test.each([
  [1, 1, 0],
  [2, 1, 1],
  [3, 1, 2],
  [100, 1, 64],
  [1000, 1, 512],
  [100_000, 1, 195 * 256],
  [16, 16, 0],
  [17, 16, 16],
  [50280, 16, 16 * 1536],
])('%i in blocks of %i: the first half is %i', (count, of, first) => {
  expect(firstHalf(count, { blocks: { of, buffers: [] } })).toBe(first);
});
