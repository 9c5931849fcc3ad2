/** Vision Mamba as the official code computes it in float64: mixers, models, and the published shape with hashed weights. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { valueAndGradients } from '../../src/autograd/index.js';
import { BidirectionalMamba } from '../../src/mixers/mamba/bidirectional.js';
import { mambaMixerConfig } from '../../src/mixers/mamba/config.js';
import { VisionMamba } from '../../src/models/vision-mamba/model.js';
import { visionMambaConfig, visionMambaSizes, type VisionMambaConfig } from '../../src/models/vision-mamba/config.js';
import { PlanBackend } from '../../src/backend/plan/plan-backend.js';
import { countParameters, ParameterStore, type TensorSource } from '../../src/nn/index.js';
import { crossEntropy, multiply, sum } from '../../src/ops/index.js';
import { keep, scope, sizeOf, tensor, withoutScope, type Tensor } from '../../src/tensor/index.js';
import { ArgumentError, DisposedError, ShapeError } from '../../src/util/errors.js';
import { compiledKernels, gpuIsHere, useBackend } from '../support/backends.js';
import { expectClose } from '../support/compare.js';
import { Goldens, goldenPath } from '../support/goldens.js';
import { hashedValues, hashedWeights } from '../support/hashed-weights.js';
import { isNight } from '../support/rare-cases.js';

interface Cases {
  readonly mixers: readonly {
    readonly file: string;
    readonly shape: readonly [batch: number, length: number, width: number];
    readonly options: {
      readonly d_state: number;
      readonly d_conv?: number;
      readonly bimamba_type: 'v1' | 'v2';
      readonly if_divide_out?: boolean;
      readonly init_layer_scale?: number;
      readonly bias?: boolean;
    };
  }[];
  readonly models: readonly {
    readonly file: string;
    readonly options: {
      readonly img_size: number;
      readonly patch_size: number;
      readonly stride: number;
      readonly depth: number;
      readonly embed_dim: number;
      readonly d_state: number;
      readonly num_classes: number;
      readonly bimamba_type: 'v2' | 'none';
      readonly if_bidirectional?: boolean;
      readonly if_divide_out: boolean;
      readonly use_middle_cls_token: boolean;
      readonly rms_norm: boolean;
    };
    readonly parameters: number;
  }[];
}

const cases = JSON.parse(readFileSync(goldenPath('vision-mamba/cases.json'), 'utf8')) as Cases;
const goldenOf = (file: string) => new Goldens(goldenPath(`vision-mamba/${file}`));

const runs = [
  { on: 'reference', kind: 'reference' as const, options: {}, limits: [1e-10, 1e-10] as const },
  ...compiledKernels.map((kernels) => ({ on: kernels, kind: 'cpu' as const, options: { kernels }, limits: [1e-5, 1e-4] as const })),
  // A software GPU takes minutes to compile these kernels: by day it runs the operations alone.
  ...(isNight && gpuIsHere ? [{ on: 'webgpu', kind: 'webgpu' as const, options: {}, limits: [1e-5, 1e-4] as const }] : []),
];

describe.each(runs)('Vision Mamba on $on', ({ kind, options, limits: [mixerLimit, modelLimit] }) => {
  const backend = useBackend(kind, options);
  const sourceOf = (golden: Goldens): TensorSource => (key, { shape }) => tensor(backend(), golden.floats(`param.${key}`), shape);
  const put = (golden: Goldens, key: string) => withoutScope(() => tensor(backend(), golden.floats(key), golden.shape(key)));

  /** Compares gradients with those of the golden, which must be all that it has. */
  async function expectGradients(golden: Goldens, keys: readonly string[], gradients: readonly (Tensor | null)[], limit: number): Promise<void> {
    expect([...keys].sort()).toEqual(golden.keys.filter((key) => /^(d_|grad\.)/.test(key)).sort());
    for (const [i, key] of keys.entries()) expectClose((await gradients[i]?.exactData()) ?? [], golden.floats(key), limit, key);
  }

  test.each(cases.mixers)('the mixer of $file', async ({ file, shape: [, , dModel], options: o }) => {
    const golden = goldenOf(file);
    const store = new ParameterStore(sourceOf(golden));
    const mixer = new BidirectionalMamba(store, {
      ...mambaMixerConfig({ dModel, layers: 1, dState: o.d_state, dConv: o.d_conv ?? 4, projectionBias: o.bias ?? false }),
      ...{ backward: o.bimamba_type === 'v2' ? 'all' : 'A', mean: o.if_divide_out ?? false },
      ...(o.init_layer_scale === undefined ? {} : { layerScale: o.init_layer_scale }),
    });
    const [x, dy] = [put(golden, 'x'), put(golden, 'dy')];
    let y: Tensor | undefined;
    const { value, gradients } = withoutScope(() =>
      valueAndGradients([x, ...store.all.map(({ tensor: values }) => values)], () => {
        const output = mixer.forward(x);
        y = keep(output.retain());
        return sum(multiply(output, dy));
      }),
    );
    expectClose(await (y as Tensor).exactData(), golden.floats('y'), mixerLimit, 'y');
    await expectGradients(golden, ['d_x', ...store.all.map(({ key }) => `grad.${key}`)], gradients, mixerLimit);
    for (const one of [x, dy, y, value, ...gradients, ...store.all.map(({ tensor: values }) => values)]) one?.dispose();
  });

  test.each(cases.models)('the model of $file', async ({ file, options: o, parameters }) => {
    const golden = goldenOf(file);
    const config = visionMambaConfig({
      ...{ imageSize: o.img_size, patch: o.patch_size, stride: o.stride, layers: o.depth, dModel: o.embed_dim, dState: o.d_state, classes: o.num_classes },
      ...{ directions: o.if_bidirectional === true ? 'pairs' : 'both', mean: o.if_divide_out, classToken: o.use_middle_cls_token ? 'middle' : 'first' },
      norm: o.rms_norm ? 'rms' : 'layer',
    });
    const model = new VisionMamba(config, backend(), sourceOf(golden));
    expect(countParameters(model.parameters)).toBe(parameters);
    const pixels = put(golden, 'pixels');
    const labels = withoutScope(() => tensor(backend(), golden.integers('target'), golden.shape('target'), 'i32'));
    const streams: [string, Tensor][] = [];
    let logits: Tensor | undefined;
    const { value, gradients } = withoutScope(() =>
      valueAndGradients([pixels, ...model.parameters.map(({ tensor: values }) => values)], () => {
        const output = model.forward(pixels);
        logits = keep(output.retain());
        return crossEntropy(output, labels);
      }),
    );
    withoutScope(() =>
      scope(() => {
        streams.push(['features', keep(model.features(pixels))]);
        model.tokens(pixels, ({ x, residual }, i) => {
          // Of a pair, the official code's second layer stands for both.
          const layer = o.if_bidirectional === true ? 2 * i + 1 : i;
          streams.push([`hidden.${layer}`, keep(x.retain())], [`residual.${layer}`, keep(residual.retain())]);
        });
      }),
    );
    expectClose(await (logits as Tensor).exactData(), golden.floats('logits'), modelLimit, 'logits');
    expectClose([await value.item()], golden.floats('loss'), modelLimit, 'loss');
    await expectGradients(golden, ['d_pixels', ...model.parameters.map(({ key }) => `grad.${key}`)], gradients, modelLimit);
    if (o.if_bidirectional !== true) for (const [key, stream] of streams) expectClose(await stream.exactData(), golden.floats(key), modelLimit, key);
    for (const one of [pixels, labels, logits, value, ...gradients, ...streams.map(([, stream]) => stream), model]) one?.dispose();
  });
});

describe('the published shapes', () => {
  test.each([
    ['tiny', 7_148_008],
    ['small', 25_796_584],
  ] as const)('%s has %i parameters', (size, count) => {
    const model = VisionMamba.initial(visionMambaConfig(size), new PlanBackend(), 0);
    expect(countParameters(model.parameters)).toBe(count);
    model.dispose();
  });

  describe.each(['auto', 'wasm'] as const)('Vim-tiny with hashed weights on %s kernels', (kernels) => {
    const backend = useBackend('cpu', { kernels, poison: false });

    test('features and logits', async () => {
      const golden = JSON.parse(readFileSync(goldenPath('vision-mamba/hashed-vim-tiny.json'), 'utf8')) as {
        readonly features: readonly number[];
        readonly argmax: number;
        readonly top20: { readonly index: readonly number[]; readonly logit: readonly number[] };
        readonly logits_mean: number;
        readonly logits_norm: number;
      };
      const model = new VisionMamba(visionMambaConfig('tiny'), backend(), hashedWeights(backend(), rangeOf));
      const [logitsTensor, featuresTensor] = scope(() => {
        const pixels = tensor(backend(), hashedValues('pixels', 3 * 224 * 224, [0, 1]), [1, 3, 224, 224]);
        return [model.forward(pixels), model.features(pixels)] as const;
      });
      const [logits, features] = [await logitsTensor.data(), await featuresTensor.data()];
      expectClose(features, golden.features, 1e-4, 'features');
      const order = [...logits.keys()].sort((a, b) => (logits[b] ?? NaN) - (logits[a] ?? NaN)).slice(0, 20);
      expect([order[0], order]).toEqual([golden.argmax, golden.top20.index]);
      expectClose(order.map((i) => logits[i] ?? NaN), golden.top20.logit, 1e-4, 'top logits');
      expectClose([Math.hypot(...logits)], [golden.logits_norm], 1e-4, 'norm of the logits');
      expect(Math.abs(logits.reduce((total, value) => total + value, 0) / logits.length - golden.logits_mean)).toBeLessThan(1e-4);
      for (const one of [logitsTensor, featuresTensor, model]) one.dispose();
    });
  });
});

/** Centre and scale of a parameter's uniform values. */
function rangeOf(key: string, shape: readonly number[]): [centre: number, scale: number] {
  if (/norm(_f)?\.weight$|\.D(_b)?$/.test(key)) return [1, 0.1];
  if (/dt_proj(_b)?\.bias$/.test(key)) return [-4, 2];
  if (/^(cls_token|pos_embed)$/.test(key)) return [0, 0.05];
  if (/conv1d(_b)?\.weight$/.test(key)) return [0, 0.5];
  if (key.endsWith('.bias')) return [0, 0.1];
  return [0, 1.5 / Math.sqrt(sizeOf(shape.slice(1)))];
}

describe('what a model is asked', () => {
  const backend = useBackend('reference');
  const config: VisionMambaConfig = visionMambaConfig({ imageSize: 8, channels: 1, patch: 4, layers: 1, dModel: 8, classes: 3 });

  test.each([
    ['an image of another size', [2, 1, 8, 9], ShapeError, /pixels.*\[B,C,S,S\] = \[2,1,8,8\].*imageSize/],
    ['images of other colours', [1, 3, 8, 8], ShapeError, /\[1,3,8,8\]/],
    ['an image without a batch', [1, 8, 8], ShapeError, /\[1,8,8\]/],
  ] as const)('%s is refused', (_, shape, kind, message) => {
    const model = VisionMamba.initial(config, backend(), 1);
    const ask = () => scope(() => model.forward(tensor(backend(), new Float32Array(sizeOf(shape)), shape)));
    expect(ask).toThrow(kind);
    expect(ask).toThrow(message);
    model.dispose();
    expect(ask).toThrow(DisposedError);
  });

  test.each([
    [{ size: 'huge' as 'tiny' }, /size is 'huge'; expected one of tiny, small, base/],
    [{ patch: 300 }, /patch is 300; expected at most the image's 224/],
    [{ layers: 3, directions: 'pairs' as const }, /layers is 3; expected an even number/],
    [{ dModel: 0 }, /dModel/],
    [{ directions: 'forward' as 'both' }, /directions is 'forward'; expected one of both, sharedSelection, pairs/],
    [{ norm: 'batch' as 'rms' }, /norm is 'batch'; expected one of rms, layer/],
  ])('a config of %o is refused', (options, message) => {
    expect(() => visionMambaConfig(options)).toThrow(ArgumentError);
    expect(() => visionMambaConfig(options)).toThrow(message);
  });

  test('there are three published sizes', () => {
    expect(visionMambaSizes).toEqual(['tiny', 'small', 'base']);
  });

  test('without a class token, the mean of all patches is classified', async () => {
    const model = VisionMamba.initial({ ...config, classToken: 'none' }, backend(), 1);
    const [tokens, features] = scope(() => {
      const pixels = tensor(backend(), Float32Array.from({ length: 64 }, (_, i) => Math.sin(i)), [1, 1, 8, 8]);
      return [model.tokens(pixels), model.features(pixels)] as const;
    });
    expect(tokens.shape).toEqual([1, 4, 8]);
    const all = await tokens.exactData();
    expectClose(await features.exactData(), Array.from({ length: 8 }, (_, d) => [0, 1, 2, 3].reduce((total, m) => total + (all[8 * m + d] ?? NaN), 0) / 4), 1e-12, 'features');
    for (const one of [tokens, features, model]) one.dispose();
  });
});
