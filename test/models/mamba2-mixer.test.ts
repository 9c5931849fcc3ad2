/** The Mamba-2 block with its options, as the official package computes it in float64. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { valueAndGradients } from '../../src/autograd/index.js';
import { mamba2MixerConfig, Mamba2Mixer, type Mamba2MixerConfig } from '../../src/mixers/index.js';
import { initialParameters, ParameterStore, type Linear } from '../../src/nn/index.js';
import { multiply, sum, zeros } from '../../src/ops/index.js';
import { PlanBackend } from '../../src/backend/plan/plan-backend.js';
import { keep, scope, tensor, withoutScope, type Tensor } from '../../src/tensor/index.js';
import { compiledKernels, useBackend } from '../support/backends.js';
import { expectClose } from '../support/compare.js';
import { Goldens, goldenPath } from '../support/goldens.js';

interface Block {
  readonly file: string;
  readonly shape: readonly [batch: number, length: number, width: number];
  readonly options: {
    readonly d_model: number;
    readonly d_state: number;
    readonly headdim: number;
    readonly ngroups?: number;
    readonly d_ssm?: number;
    readonly d_conv?: number;
    readonly D_has_hdim?: boolean;
    readonly dt_limit?: [number, number];
    readonly bias?: boolean;
    readonly conv_bias?: boolean;
    readonly rmsnorm?: boolean;
    readonly norm_before_gate?: boolean;
  };
  readonly packed: boolean;
}

const blocks = (JSON.parse(readFileSync(goldenPath('mamba2/blocks.json'), 'utf8')) as Block[]).map((block) => ({
  ...block,
  golden: new Goldens(goldenPath(`mamba2/${block.file}`)),
}));

function configOf({ d_model: dModel, d_state: dState, headdim: headSize, ngroups: groups = 1, ...o }: Block['options']): Mamba2MixerConfig {
  return mamba2MixerConfig({
    ...{ dModel, dState, headSize, groups, dSsm: o.d_ssm ?? 2 * dModel, dConv: o.d_conv ?? 4, skipPerChannel: o.D_has_hdim ?? false },
    ...{ dtLimit: o.dt_limit ?? [0, Infinity], projectionBias: o.bias ?? false, convBias: o.conv_bias ?? true },
    gatedNorm: o.rmsnorm === false ? null : { normBeforeGate: o.norm_before_gate ?? false },
  });
}

const runs = [
  { on: 'reference', kind: 'reference' as const, options: {}, limit: 1e-12 },
  ...compiledKernels.map((kernels) => ({ on: kernels, kind: 'cpu' as const, options: { kernels }, limit: 1e-5 })),
];

describe.each(runs)('a Mamba-2 mixer on $on', ({ kind, options, limit }) => {
  const backend = useBackend(kind, options);

  describe.each(blocks)('$file', ({ golden, options: words, shape, packed }) => {
    const config = configOf(words);
    const [batch, length, width] = shape;

    async function withMixer(body: (mixer: Mamba2Mixer, store: ParameterStore) => Promise<void>): Promise<void> {
      const store = new ParameterStore((key, request) => tensor(backend(), golden.floats(`param.${key}`), request.shape));
      const mixer = new Mamba2Mixer(store, config);
      try {
        await body(mixer, store);
      } finally {
        for (const { tensor: values } of store.all) values.dispose();
      }
    }

    /** Slots for the batch. */
    const memory = ({ slots }: Mamba2Mixer) => Object.fromEntries(Object.entries(slots).map(([name, slot]) => [name, zeros(backend(), [batch, ...slot.shape])]));

    /** Marks where the official seq_idx changes. */
    function startsOf(): Tensor | undefined {
      if (!packed) return undefined;
      const documents = golden.integers('seq_idx');
      return tensor(backend(), documents.map((id, i) => Number(i % length > 0 && id !== documents[i - 1])), [batch, length], 'i32');
    }

    /** The last K−1 inputs of the convolution, oldest first: the official package keeps K, channels before positions. */
    function convState(): number[] {
      const [, channels = 0, taps = 0] = golden.shape('final_conv_state');
      const all = golden.floats('final_conv_state');
      return Array.from({ length: batch * (taps - 1) * channels }, (_, i) => {
        const [b, k, c] = [Math.floor(i / ((taps - 1) * channels)), Math.floor(i / channels) % (taps - 1), i % channels];
        return all[(b * channels + c) * taps + k + 1] ?? NaN;
      });
    }

    test('output, states, and the gradients by input and parameters', () =>
      withMixer(async (mixer, { all }) => {
        const [x, dy, after] = withoutScope(() => scope(() => [
          tensor(backend(), golden.floats('x'), shape),
          tensor(backend(), golden.floats('dy'), shape),
          memory(mixer),
        ] as const));
        let y: Tensor | undefined;
        const { value, gradients } = withoutScope(() =>
          valueAndGradients([x, ...all.map(({ tensor: values }) => values)], () => {
            const output = mixer.forward(x, { after, starts: startsOf() });
            y = keep(output.retain());
            return sum(multiply(output, dy));
          }),
        );
        expectClose(await (y as Tensor).exactData(), golden.floats('y'), limit, 'y');
        const keys = ['d_x', ...all.map(({ key }) => `grad.${key}`)];
        expect([...keys].sort()).toEqual(golden.keys.filter((key) => /^(d_|grad\.)/.test(key)).sort());
        for (const [i, key] of keys.entries()) expectClose((await gradients[i]?.exactData()) ?? [], golden.floats(key), limit, key);
        if (!packed) {
          expectClose((await after['conv']?.exactData()) ?? [], convState(), limit, 'conv');
          expectClose((await after['ssm']?.exactData()) ?? [], golden.floats('final_ssm_state'), limit, 'ssm');
        }
        for (const one of [x, dy, y, value, ...gradients, ...Object.values(after)]) one?.dispose();
      }));

    // Within the packed row, the first document alone is that of steps.
    test('steps', () =>
      withMixer(async (mixer) => {
        const steps = packed ? golden.integers('seq_idx').findIndex((id) => id !== 0) : length;
        const [inputs, expected] = [golden.floats('x'), golden.floats('y')];
        const [state, constants] = withoutScope(() => scope(() => [memory(mixer), mixer.constants()] as const));
        for (let t = 0; t < steps; t++) {
          const at = (of: ArrayLike<number>) => Array.from({ length: batch * width }, (_, i) => of[(Math.floor(i / width) * length + t) * width + (i % width)] ?? NaN);
          const y = scope(() => {
            const x = tensor<'f32'>(backend(), at(inputs), [batch, width]);
            return mixer.step({ value: () => x, project: (linear: Linear) => linear.forward(x) }, { memory: state, constants });
          });
          expectClose(await y.exactData(), at(expected), 10 * limit, `y of position ${t}`);
          y.dispose();
        }
        for (const one of [...Object.values(state), ...Object.values(constants)]) one.dispose();
      }));
  });
});

describe('how a Mamba-2 mixer starts', () => {
  const backend = useBackend('reference');

  test.each([
    { initialisation: {}, conv: 0.5 },
    { initialisation: { aMin: 2, aMax: 3, dtMin: 0.01, dtMax: 0.02, convBound: 0.1 }, conv: 0.1 },
    { initialisation: { dtMin: 1e-6, dtMax: 1e-5, dtFloor: 1e-3 }, conv: 0.5 },
  ])('$initialisation', async ({ initialisation, conv }) => {
    const config = mamba2MixerConfig({ dModel: 32, headSize: 1, dState: 2, initialisation });
    const { aMin, aMax, dtMin, dtMax, dtFloor } = config.initialisation;
    const store = new ParameterStore(initialParameters(backend(), 1));
    new Mamba2Mixer(store, config, { outputGain: 0.25 });
    const values = new Map<string, number[]>();
    for (const { key, tensor: of } of store.all) values.set(key, [...(await of.exactData())]);
    const range = (key: string, f: (x: number) => number = (x) => x) => [Math.min, Math.max].map((pick) => pick(...(values.get(key) ?? []).map(f)));
    const within = ([least = NaN, most = NaN]: number[], [low, high]: [number, number]) => {
      const slack = 1e-3 * (high - low) + 1e-6 * high;
      expect([least >= low - slack, most <= high + slack, most - least >= 0.8 * (high - low)]).toEqual([true, true, true]);
    };
    within(range('A_log', Math.exp), [aMin, aMax]);
    within(range('dt_bias', (x) => Math.log1p(Math.exp(x))), [Math.max(dtMin, dtFloor), Math.max(dtMax, dtFloor)]);
    within(range('conv1d.weight'), [-conv, conv]);
    within(range('out_proj.weight'), [-0.25 / 8, 0.25 / 8]);
    expect([range('D'), range('norm.weight')]).toEqual([[1, 1], [1, 1]]);
    // The published recipe spares the dynamics, biases and norms weight decay.
    expect(store.all.filter(({ decay }) => decay).map(({ key }) => key)).toEqual(['in_proj.weight', 'conv1d.weight', 'out_proj.weight']);
    for (const { tensor: of } of store.all) of.dispose();
  });

  test('the sizes of the published hybrid’s layers', () => {
    const store = new ParameterStore(initialParameters(new PlanBackend(), 0));
    new Mamba2Mixer(store, mamba2MixerConfig({ dModel: 2560 }));
    const shapes = Object.fromEntries(store.all.map(({ key, tensor: { shape } }) => [key, shape]));
    expect(shapes).toMatchObject({ 'in_proj.weight': [10576, 2560], 'conv1d.weight': [5376, 1, 4], 'out_proj.weight': [2560, 5120], A_log: [80] });
  });
});
