/** A Mamba-2 block's fused step: when there is one, what it gives, and to whom its parts go. */
import { expect, test } from 'vitest';
import { Mamba2Mixer, mamba2MixerConfig, type Mamba2MixerOptions } from '../../src/mixers/index.js';
import { LanguageModel, mamba2Family } from '../../src/models/index.js';
import { mamba2Config } from '../../src/models/mamba2/config.js';
import { Block } from '../../src/nn/block.js';
import { initialParameters, Norm, ParameterStore, type FusedStep, type Mixer } from '../../src/nn/index.js';
import { scope, tensor } from '../../src/tensor/index.js';
import { useBackend } from '../support/backends.js';
import { expectClose } from '../support/compare.js';

const backend = useBackend('reference');

const usual = { dModel: 16, dInner: 32, dSsm: 32, headSize: 8, dState: 4 } satisfies Mamba2MixerOptions;
const mixers: readonly (readonly [what: string, fused: boolean, options: Partial<Mamba2MixerOptions>, adapter?: true])[] = [
  ['the usual form', true, {}],
  ['no norm of what z gates', true, { gatedNorm: null }],
  ['two groups of B and C, one of the norm, limits', true, { groups: 2, gatedNorm: { groups: 1 }, dtLimit: [0.01, 0.1] }],
  ['no bias of the convolution', true, { convBias: false }],
  ['an adapter', false, {}, true],
  ['a gated unit beside the state space model', false, { dSsm: 16 }],
  ['D by channel', false, { skipPerChannel: true }],
  ['the gate after the norm', false, { gatedNorm: { normBeforeGate: true } }],
  ['a norm in groups', false, { groups: 2 }],
  ['biases of projections', false, { projectionBias: true }],
];

test.each(mixers.map(([what, fused, options, adapter = false]) => ({ what, fused, options, adapter })))('$what: fused $fused', ({ fused, options, adapter }) => {
  const parameters = new ParameterStore(initialParameters(backend(), 1));
  const mixer = new Mamba2Mixer(parameters.at('mixer'), mamba2MixerConfig({ ...usual, ...options }));
  const norm = new Norm(parameters.at('norm'), { size: 16, kind: 'rms', epsilon: 1e-5 });
  if (adapter) mixer.outProj.added = (x) => x as never;
  expect(mixer.fuse(norm) !== null).toBe(fused);
  for (const { tensor: made } of parameters.all) made.dispose();
});

test.each([1, 3, 5])('%i sequences: steps in parts are the sequence', async (batch) => {
  const config = mamba2Config({ vocabularySize: 11, dModel: 64, layers: 3, dState: 16, headSize: 64 });
  const model = LanguageModel.initial(mamba2Family, config, backend(), 2);
  const state = model.newState(batch);
  const prepared = model.prepare();
  const ids = Array.from({ length: batch }, (_, b) => [1, 7, (3 * b) % 11, 10]);
  for (const position of [0, 1, 2, 3]) {
    const before = backend().statistics().launches;
    const step = scope(() => model.step(tensor(backend(), ids.map((row) => row[position] ?? 0), [batch], 'i32'), state, prepared));
    // Two launches a block, of the last three; embedding, head and norm. Beyond 4 sequences the step is composed.
    if (batch <= 4) expect(backend().statistics().launches - before).toBeLessThanOrEqual(2 * config.layers + 4);
    const whole = scope(() => model.forwardLast(tensor(backend(), ids.flatMap((row) => row.slice(0, position + 1)), [batch, position + 1], 'i32')));
    expectClose(await step.exactData(), await whole.exactData(), 1e-10, `logits of position ${position}`);
    for (const made of [step, whole]) made.dispose();
  }
  for (const made of [state, prepared, model]) made.dispose();
});

const forms: readonly (readonly [forms: readonly (string | null)[], parts: readonly boolean[]])[] = [
  [['mamba2', 'mamba2', 'mamba2'], [true, true, false]],
  [['mamba2', 'mamba', 'mamba'], [false, true, false]],
  [['mamba', 'mamba2', null], [false, false]],
  [['mamba2', null, 'mamba2'], [false, false]],
];

test.each(forms)('blocks of the forms %j return parts: %j', (kinds, expected) => {
  const asked: boolean[] = [];
  const parameters = new ParameterStore(initialParameters(backend(), 1));
  const norm = new Norm(parameters, { size: 2, kind: 'rms', epsilon: 1e-5 });
  const x = tensor(backend(), [1, 2], [1, 2]);
  const blocks = kinds.map((parts) => {
    const run: FusedStep['run'] = (_x, _residual, _pass, given) => {
      asked.push(given);
      return { x: x.retain() as never, residual: x.retain() as never };
    };
    const mixer: Mixer = { slots: {}, forward: () => x as never, step: (input) => input.value(), fuse: () => (parts === null ? null : { parts, run }) };
    return new Block([{ name: 'mixer', norm, mixer }]);
  });
  scope(() => {
    blocks.forEach((block, i) => void block.step(x, null, [{ memory: {}, constants: {} }], blocks[i + 1]?.parts() ?? null));
  });
  expect(asked).toEqual(expected);
  for (const made of [x, ...parameters.all.map(({ tensor: of }) => of)]) made.dispose();
});
