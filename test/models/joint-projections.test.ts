/** Layers whose projections are one matrix, as the official Mamba package has them, against those whose projections are apart. */
import { describe, expect, test } from 'vitest';
import type { AttentionConfig } from '../../src/mixers/attention/config.js';
import { AttentionMixer } from '../../src/mixers/attention/mixer.js';
import { FeedForward, type Activation } from '../../src/mixers/feed-forward/mixer.js';
import { initialParameters, ParameterStore, type Mixer } from '../../src/nn/index.js';
import { scope, tensor } from '../../src/tensor/index.js';
import { Random } from '../../src/util/random.js';
import { useBackend } from '../support/backends.js';
import { expectClose } from '../support/compare.js';
import { read } from '../support/models.js';

const [batch, length, width] = [2, 7, 6];
const backend = useBackend('reference');
const random = new Random(7);
const numbers = (count: number) => Float64Array.from({ length: count }, () => random.normal());

/** Makes a layer and gives its parameters by key; `values` replaces those it names. */
async function made<M extends Mixer>(make: (store: ParameterStore) => M, values: Readonly<Record<string, readonly number[]>> = {}) {
  const initial = initialParameters(backend(), 1);
  const store = new ParameterStore((key, request) => (values[key] === undefined ? initial(key, request) : tensor(backend(), values[key], request.shape)));
  const mixer = make(store);
  const read = new Map<string, number[]>();
  for (const { key, tensor: of } of store.all) read.set(key, [...(await of.exactData())]);
  const dispose = () => {
    for (const { tensor: of } of [...store.all, ...store.tables.map((table) => ({ tensor: table }))]) of.dispose();
  };
  return { mixer, dispose, rows: (key: string, from: number, to: number, columns: number) => (read.get(key) ?? []).slice(from * columns, to * columns) };
}

const x = numbers(batch * length * width);
const input = () => tensor(backend(), x, [batch, length, width]);
const outputOf = (mixer: Mixer) => read(() => mixer.forward(input(), {}));

describe('a feed-forward layer with one projection for up and gate', () => {
  test.each<[Activation, boolean, number]>([
    ['silu', false, 5],
    ['gelu', true, 4],
    ['relu', true, 1],
  ])('%s, biases %s, width %i', async (activation, bias, inner) => {
    const config = { dModel: width, inner, activation, bias };
    const spread = { deviation: 0.5 };
    const joint = await made((store) => new FeedForward(store, config, { upAndGate: 'fc1', down: 'fc2' }, spread));
    const values = Object.fromEntries(
      (['weight', ...(bias ? ['bias'] : [])] as const).flatMap((part) => {
        const columns = part === 'weight' ? width : 1;
        return [
          [`up.${part}`, joint.rows(`fc1.${part}`, 0, inner, columns)],
          [`gate.${part}`, joint.rows(`fc1.${part}`, inner, 2 * inner, columns)],
          [`down.${part}`, joint.rows(`fc2.${part}`, 0, width, part === 'weight' ? inner : 1)],
        ];
      }),
    ) as Record<string, number[]>;
    const apart = await made((store) => new FeedForward(store, config, { gate: 'gate', up: 'up', down: 'down' }, spread), values);
    expectClose(await outputOf(joint.mixer), await outputOf(apart.mixer), 1e-12, 'output');
    for (const one of [joint, apart]) one.dispose();
  });
});

describe('attention with one projection for queries, keys and values', () => {
  test.each<[heads: number, kvHeads: number, headSize: number, unit: number, rotary: number]>([
    [4, 2, 3, 0, 2],
    [3, 1, 2, 5, 0],
    [2, 2, 4, 3, 4],
  ])('%i heads on %i of %i, a unit of %i, rotary %i', async (heads, kvHeads, headSize, unit, turned) => {
    const config: AttentionConfig = {
      ...{ dModel: width, heads, kvHeads, headSize, inputBias: false, outputBias: false, unit },
      rotary: turned === 0 ? null : { size: turned, base: 10, scaling: null },
    };
    const spread = { deviation: 0.7 };
    const joint = await made((store) => new AttentionMixer(store, config, { stacked: 'in_proj', conv: 'conv1d', output: 'out_proj' }, spread));
    const [q, k] = [heads * headSize, kvHeads * headSize];
    const part = (from: number, to: number) => joint.rows('in_proj.weight', from, to, width);
    // out_proj reads the heads first, then the unit: its columns divide.
    const columns = (from: number, to: number) => Array.from({ length: width }, (_, i) => joint.rows('out_proj.weight', i, i + 1, q + unit).slice(from, to)).flat();
    const attention = await made(
      (store) => new AttentionMixer(store, { ...config, unit: 0 }, { query: 'q', key: 'k', value: 'v', output: 'o' }, spread),
      { 'q.weight': part(0, q), 'k.weight': part(q, q + k), 'v.weight': part(q + k, q + 2 * k), 'o.weight': columns(0, q) },
    );
    let expected = await outputOf(attention.mixer);
    if (unit > 0) {
      const feed = await made(
        (store) => new FeedForward(store, { dModel: width, inner: unit, activation: 'silu', bias: false }, { gate: 'g', up: 'u', down: 'd' }, spread),
        { 'u.weight': part(q + 2 * k, q + 2 * k + unit), 'g.weight': part(q + 2 * k + unit, q + 2 * k + 2 * unit), 'd.weight': columns(q, q + unit) },
      );
      const beside = await outputOf(feed.mixer);
      expected = expected.map((value, i) => value + (beside[i] ?? NaN));
      feed.dispose();
    }
    expectClose(await outputOf(joint.mixer), expected, 1e-12, 'output');
    for (const one of [joint, attention]) one.dispose();
  });

  test.each([
    [{ convWidth: 2 }, { query: 'q', key: 'k', value: 'v', output: 'o' }, /AttentionMixer: convWidth is 2; expected none/],
    [{ unit: 8 }, { query: 'q', key: 'k', value: 'v', output: 'o' }, /AttentionMixer: unit is 8; expected none/],
    [{ convWidth: 1 }, { byHead: 'qkv', output: 'o' }, /AttentionMixer: convWidth is 1; expected none/],
  ])('%j is refused of other projections', (more, names, message) => {
    const config: AttentionConfig = { dModel: width, heads: 2, kvHeads: 2, headSize: 4, inputBias: false, outputBias: false, rotary: null, ...more };
    expect(() => new AttentionMixer(new ParameterStore(initialParameters(backend(), 1)), config, names, { deviation: 1 })).toThrow(message);
  });

  test('its convolution remembers inputs, not outputs', async () => {
    const config: AttentionConfig = { dModel: width, heads: 2, kvHeads: 1, headSize: 4, inputBias: true, outputBias: true, rotary: null, convWidth: 3 };
    const { mixer, dispose, rows } = await made((store) => new AttentionMixer(store, config, { stacked: 'in_proj', conv: 'conv1d', output: 'out_proj' }, { deviation: 0.7 }));
    const channels = 16;
    const conv = scope(() => {
      const after = tensor<'f32'>(backend(), new Float64Array(batch * 2 * channels), [batch, 2, channels]);
      mixer.forward(input(), { after: { conv: after } });
      return after;
    });
    const [weight, bias] = [rows('in_proj.weight', 0, channels, width), rows('in_proj.bias', 0, channels, 1)];
    const expected = Array.from({ length: batch * 2 * channels }, (_, i) => {
      const [b, t, c] = [Math.floor(i / (2 * channels)), length - 2 + (Math.floor(i / channels) % 2), i % channels];
      return weight.slice(c * width, (c + 1) * width).reduce((sum, w, j) => sum + w * (x[(b * length + t) * width + j] ?? NaN), bias[c] ?? NaN);
    });
    expect(mixer.slots).toMatchObject({ conv: { shape: [2, channels] }, keys: { shape: [1, 4] } });
    expectClose(await conv.exactData(), expected, 1e-12, 'conv');
    conv.dispose();
    dispose();
  });
});
