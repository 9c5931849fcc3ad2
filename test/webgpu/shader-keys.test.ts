/** Code for a GPU is shared by launches with one key: launches of one key must have the same code. No GPU is needed for that. */
import { expect, test } from 'vitest';
import { PlanBackend } from '../../src/backend/plan/plan-backend.js';
import { LaunchPlans } from '../../src/backend/webgpu/plan.js';
import type { Pipelines } from '../../src/backend/webgpu/pipelines.js';
import { operationCases } from '../../src/ops/all-cases.js';
import type { BufferView, GpuFeatures, Kernel } from '../../src/tensor/index.js';
import { runCase } from '../support/cases.js';

const large: GpuFeatures = {
  ...{ f16: true, subgroups: { smallest: 32, largest: 32 }, matrices: true, workgroupBytes: 49152, workgroupSize: 1024 },
  ...{ storageBuffers: 16, bindingBytes: 2 ** 32 },
};
const kinds: readonly (readonly [what: string, features: GpuFeatures])[] = [
  ['matrix units', large],
  ['subgroups of 4', { ...large, matrices: false, f16: false, subgroups: { smallest: 4, largest: 4 }, workgroupBytes: 16384, workgroupSize: 256 }],
];

/**
 * Plans launches as a GPU with these features would, and runs none. A launch is also planned without each of its optional buffers and with each of its
 * flags the other way: what no case has side by side, a program may. Where that is no launch there is, its plan may fail.
 */
class PlanningBackend extends PlanBackend {
  readonly collisions = new Set<string>();
  readonly #features: GpuFeatures;
  readonly #plans: LaunchPlans;

  constructor(features: GpuFeatures) {
    super();
    this.#features = features;
    const codes = new Map<string, string>();
    const pipelines = {
      get: (key: string, _label: string, _access: unknown, source: () => string) => {
        const code = source();
        if ((codes.get(key) ?? code) !== code) this.collisions.add(key);
        codes.set(key, code);
        return { key };
      },
    };
    this.#plans = new LaunchPlans(features, pipelines as unknown as Pipelines);
  }

  override supports(kernel: Kernel): boolean {
    return kernel.needs(this.#features);
  }

  override launch(kernel: Kernel, views: readonly (BufferView | null)[], parameters: readonly number[]): void {
    this.#plans.get(kernel, views, parameters);
    const [buffers, kinds] = [Object.values(kernel.buffers), Object.values(kernel.parameters)];
    const without = views.flatMap((view, i) => (view !== null && buffers[i]?.optional === true ? [views.with(i, null)] : []));
    const turned = parameters.flatMap((value, i) => (kinds[i] === 'flag' ? [parameters.with(i, 1 - value)] : []));
    for (const others of without) this.#tryPlan(kernel, others, parameters);
    for (const others of turned) this.#tryPlan(kernel, views, others);
  }

  #tryPlan(...launch: Parameters<PlanningBackend['launch']>): void {
    try {
      this.#plans.get(...launch);
    } catch {
      // No launch of an operation is like that.
    }
  }
}

test.each(kinds)('on %s', async (_, features) => {
  const backend = new PlanningBackend(features);
  for (const cases of Object.values(operationCases)) {
    for (const one of cases) {
      for (const dtype of one.half === undefined || !features.f16 ? (['f32'] as const) : (['f32', 'f16'] as const)) {
        await expect(runCase(backend, one, dtype), one.name).rejects.toThrow('the plan backend holds no values');
      }
    }
  }
  expect([...backend.collisions]).toEqual([]);
});
