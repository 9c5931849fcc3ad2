/** The Switch layer of MoE-Mamba's official code, in float64: with room for all tokens, and with tokens dropped and a z-loss. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { Tape } from '../../src/autograd/index.js';
import { experts, routeTokens } from '../../src/ops/index.js';
import { scope, tensor } from '../../src/tensor/index.js';
import { compiledKernels, gpuIsHere, useBackend } from '../support/backends.js';
import { expectClose } from '../support/compare.js';
import { Goldens, goldenPath } from '../support/goldens.js';

interface Sizes {
  readonly capacity_factor: number;
  readonly balance_weight: number;
  readonly z_weight: number;
  readonly dropped: number;
}

const cases = JSON.parse(readFileSync(goldenPath('moe-mamba/cases.json'), 'utf8')) as Readonly<Record<string, Sizes>>;

/** Names in the files. */
const inputs = { x: 'x', gate: 'gating.gate', first: 'expert_inner_function.lin1_weight', second: 'expert_inner_function.lin2_weight' } as const;

const runs = [
  { on: 'reference', kind: 'reference' as const, options: {}, limit: 1e-10 },
  ...compiledKernels.map((kernels) => ({ on: kernels, kind: 'cpu' as const, options: { kernels }, limit: 1e-5 })),
  ...(gpuIsHere ? [{ on: 'webgpu', kind: 'webgpu' as const, options: {}, limit: 1e-5 }] : []),
];

describe.each(runs)('on $on', ({ kind, options, limit }) => {
  const backend = useBackend(kind, options);

  test.each(['layer-0', 'layer-1'])('%s: outputs, choices, losses and gradients', async (name) => {
    const golden = new Goldens(goldenPath(`moe-mamba/${name}.safetensors`));
    const { capacity_factor: capacityFactor, balance_weight: balance, z_weight: z, dropped } = cases[name] as Sizes;
    const put = (key: string) => tensor(backend(), golden.floats(key), golden.shape(key));
    const result = scope(() => {
      const given = { x: put(inputs.x), gate: put(inputs.gate), first: put(inputs.first), second: put(inputs.second) };
      const by = Object.values(given);
      const tape = new Tape(by);
      const { y, routing, auxiliary } = tape.run(() => {
        const { routing, gates, auxiliary } = routeTokens(given.x, given.gate, { capacityFactor, losses: { balance, z } });
        if (auxiliary === null) throw new Error('no losses');
        return { y: experts(given.x, gates, routing, given.first, given.second), routing, auxiliary };
      });
      const one = tensor(backend(), [1], []);
      return { y, ...routing, ...auxiliary, gradients: tape.backward([y, auxiliary.balance, auxiliary.z], [put('cotangent.out'), one, one], by) };
    });
    const numbers = (key: string) => golden.integers(key);
    expectClose(await result.y.exactData(), golden.floats('out'), limit, 'out');
    expect([...(await result.choice.data())]).toEqual([...numbers('expert_index')]);
    const kept = [...golden.bytes('kept')];
    expect([...(await result.place.data())].map((place) => Number(place >= 0))).toEqual(kept);
    expect(kept.filter((one) => one === 0)).toHaveLength(dropped);
    expectClose([await result.balance.item(), await result.z.item()], [golden.floats('loss_balance')[0] ?? NaN, golden.floats('loss_z')[0] ?? NaN], limit, 'losses');
    expectClose([await result.dropped.item()], [dropped / kept.length], limit, 'dropped');
    for (const [i, key] of Object.values(inputs).entries()) {
      const gradient = result.gradients[i];
      expectClose((await gradient?.exactData()) ?? [], golden.floats(`grad.${key}`), limit, `gradient of ${key}`);
    }
    const { gradients, ...tensors } = result;
    for (const one of [...Object.values(tensors), ...gradients]) one?.dispose();
  });
});
