import { expect, test } from 'vitest';
import { valueAndGradients } from '../../../src/autograd/index.js';
import { PlanBackend } from '../../../src/backend/plan/plan-backend.js';
import type { LanguageModel } from '../../../src/models/index.js';
import { scope } from '../../../src/tensor/index.js';
import { idTensor } from '../../support/models.js';
import type { Subject } from './subject.js';

/** The plan backend counts the launches of the CPU. */
export function checkLaunches({ row, variant, withModel }: Pick<Subject, 'row' | 'variant' | 'withModel'>): void {
  test('as many as the plan backend counts', () =>
    withModel(async (model) => {
      const planned = row.make(new PlanBackend(), variant.options);
      const counts = launchesOf(planned);
      expect(launchesOf(model)).toEqual(counts);
      // A captured step is one program, replayed whole.
      expect(counts.replayed).toBe(2 * counts.program);
      const { prepare, ...others } = counts;
      expect(prepare > 0).toBe(model.mixers.some((mixer) => 'constants' in mixer));
      for (const count of Object.values(others)) expect(count).toBeGreaterThan(0);
      planned.dispose();
      expect(planned.backend.statistics().liveBuffers).toBe(0);
      await model.backend.synchronize();
    }));
}

/** Launches of everything a model does. */
function launchesOf(model: LanguageModel) {
  const { backend } = model;
  const [state, prepared] = [model.newState(2), model.prepare()];
  const [one, several] = [idTensor(backend, [0, 0], [2]), idTensor(backend, new Int32Array(60), [2, 30])];
  const during = (body: () => void) => {
    const before = backend.statistics().launches;
    scope(body);
    return backend.statistics().launches - before;
  };
  // Room for a position is no part of a step.
  state.reserve(1);
  const program = backend.capture(() => {
    scope(() => model.step(one, state, prepared)).dispose();
  });
  const weights = model.parameters.map(({ tensor }) => tensor);
  const counts = {
    program: program.launches,
    replayed: during(() => {
      program.replay();
      program.replay();
    }),
    prepare: during(() => {
      model.prepare().dispose();
    }),
    forward: during(() => void model.forward(several)),
    prompt: during(() => void model.forwardLast(several, { state, prepared })),
    tokenLosses: during(() => void model.tokenLosses(several, several)),
    gradients: during(() => void valueAndGradients(weights, () => model.loss(several, several))),
  };
  program.dispose();
  for (const tensor of [prepared, state, one, several]) tensor.dispose();
  return counts;
}
