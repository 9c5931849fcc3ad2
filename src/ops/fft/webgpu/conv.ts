import { usableBytes, type GpuDispatch, type GpuKernel, type GpuLaunch } from '../../../tensor/index.js';
import { perElement } from '../../../wgsl/per-element.js';
import { saturated } from '../../../wgsl/vectors.js';
import { complexCode, entry, pairs, reversed, transforms } from './passes.js';

type Operands = 'x' | 'kernel' | 'D' | 'reverseKernel' | 'table' | 'work';
type Sizes = 'batch' | 'length' | 'channels' | 'features' | 'taps' | 'reverseTaps' | 'points' | 'areas';
type Pitches = 'xPitch' | 'kernelPitch' | 'skipPitch' | 'reversePitch';
type Launch = GpuLaunch<Operands, Sizes | Pitches>;

/** Bytes of the spectra of a round of the batch. */
const roundBytes = 2 ** 28;

/** Frequencies that are worked on together, k and N − k: how many pairs there are, and WGSL of the places `at` and `partner` of pair `pair` and of its k. */
const pairCount = (points: number): number => (points === 1 ? 1 : points / 2 + 1);
const pairCode = (points: number): string => `
  var at = pair;
  var partner = pair;
  if (pair > 1u) {
    let half = 1u << firstLeadingBit(pair - 1u);
    at = pair - 1u + half;
    partner = 6u * half - 1u - at;
  }
  let k = ${reversed('at', Math.log2(points))};`;

/** WGSL as `filter_pair` on the CPU: spectra of even and odd positions, twice; what an input gives with a filter, or with one turned around. */
const filterCode = `
  ${complexCode}
  struct Halves { even: vec2<f32>, odd: vec2<f32> }
  fn halves(a: vec2<f32>, b: vec2<f32>) -> Halves {
    return Halves(vec2<f32>(a.x + b.x, a.y - b.y), vec2<f32>(a.y + b.y, b.x - a.x));
  }
  fn filtered(x: Halves, w: Halves, root: vec2<f32>) -> Halves {
    return Halves(multiplied(x.even, w.even) + multiplied(x.odd, multiplied(w.odd, root)), multiplied(x.even, w.odd) + multiplied(x.odd, w.even));
  }
  fn filtered_back(x: Halves, w: Halves, root: vec2<f32>) -> Halves {
    return Halves(
      multiplied(x.even, conjugate(w.even)) + multiplied(x.odd, conjugate(w.odd)),
      multiplied(x.even, conjugate(multiplied(w.odd, root))) + multiplied(x.odd, conjugate(w.even)));
  }
  fn joined(y: Halves) -> vec2<f32> { return y.even + times_i(y.odd); }
  fn joined_partner(y: Halves) -> vec2<f32> { return conjugate(y.even) + times_i(conjugate(y.odd)); }`;

const spectrumAt = (name: string, group: string, place: string, begin = '0u'): string =>
  `${name}[${begin} + (${group} * p.points + ${place}) * p.features + h]`;
const halvesAt = (name: string, group: string, begin?: string): string =>
  `halves(${spectrumAt(name, group, 'at', begin)}, ${spectrumAt(name, group, 'partner', begin)})`;

/** Batches of a round. */
function roundsOf({ gpu, parameters }: Pick<Launch, 'gpu' | 'parameters'>): { first: number; count: number }[] {
  const { batch, channels, features, points } = parameters;
  const bytes = channels * features * points * 8;
  const most = Math.max(1, Math.floor(Math.min(roundBytes, usableBytes(gpu)) / bytes));
  const rounds = Math.ceil(batch / most);
  return Array.from({ length: rounds }, (_, i) => {
    const first = Math.floor((batch * i) / rounds);
    return { first, count: Math.floor((batch * (i + 1)) / rounds) - first };
  });
}

/** The filters' spectra, at the beginning of `work`: [channels, points, features]. */
function filterSpectra({ parameters, has }: Launch): GpuDispatch[] {
  const { channels, features, points } = parameters;
  const reals = 2 * points;
  return transforms(
    {
      variant: 'filters',
      buffer: 'work',
      groups: channels,
      points,
      columns: features,
      buffers: ['kernel', ...(['D', 'reverseKernel'] as const).filter((name) => has(name))],
      functions: `
        fn tap(c: u32, h: u32, j: u32) -> f32 {
          var value = 0.0;
          let row = c * p.features + h;
          if (j < p.taps) { value = kernel[p.kernel_at + row * p.kernelPitch + j]; }
          ${has('D') ? 'if (j == 0u) { value += D[p.D_at + c * p.skipPitch + h]; }' : ''}
          ${has('reverseKernel') ? `if (j >= ${reals}u - p.reverseTaps) { value = reverseKernel[p.reverseKernel_at + row * p.reversePitch + ${reals - 1}u - j]; }` : ''}
          return value * ${0.25 / points};
        }`,
      load: 'vec2<f32>(tap(group, column, 2u * point), tap(group, column, 2u * point + 1u))',
    },
    false,
  );
}

/** WGSL of positions 2·point and 2·point + 1 of an array [batch, length, …]. */
const readCode = (name: 'x' | 'dy'): string => `
  fn position(b: u32, t: u32, column: u32) -> f32 {
    if (t >= p.length) { return 0.0; }
    return f32(${name}[p.${name}_at + (b * p.length + t) * p.${name}Pitch + column]);
  }`;
const readPoint = (b: string, column: string): string => `vec2<f32>(position(${b}, 2u * point, ${column}), position(${b}, 2u * point + 1u, ${column}))`;

/** WGSL that stores the positions of a point. */
const writePoint = (name: string, dtype: string, at: (t: string) => string): string =>
  ['x', 'y']
    .map((part, i) => `if (2u * point + ${i}u < p.length) { ${name}[p.${name}_at + ${at(`(2u * point + ${i}u)`)}] = ${saturated(1, dtype, `value.${part}`)}; }`)
    .join('\n');

export const fftConvGpu: GpuKernel<Operands | 'y', Sizes | Pitches> = (launch) => {
  const { channels, features, points } = launch.parameters;
  const rounds = roundsOf(launch);
  const most = Math.max(...rounds.map(({ count }) => count));
  const out = channels === 1 ? 'inputs' : 'outputs';
  const pairsOf = pairCount(points);
  return {
    dispatches: [
      ...filterSpectra(launch),
      ...rounds.flatMap(({ first, count }) => [
        ...transforms(
          {
            ...{ variant: 'x', buffer: 'inputs', groups: count, points, columns: features, buffers: ['x'], numbers: { first } },
            functions: readCode('x'),
            load: readPoint('p.first + group', 'column'),
          },
          false,
        ),
        perElement({
          variant: `filtered ${points} ${out}`,
          count: count * channels * pairsOf * features,
          buffers: [pairs('inputs', ...(out === 'inputs' ? [] : ['read' as const])), ...(out === 'inputs' ? [] : [pairs(out)]), pairs('work', 'read'), pairs('table')],
          numbers: { pairs: pairsOf },
          functions: filterCode,
          body: `
            let h = i % p.features;
            let pair = i / p.features % p.pairs;
            let c = i / p.features / p.pairs % p.channels;
            let b = i / p.features / p.pairs / p.channels;
            ${pairCode(points)}
            let result = filtered(${halvesAt('inputs', 'b')}, ${halvesAt('work', 'c')}, ${entry('table', 'k')});
            ${spectrumAt(out, '(b * p.channels + c)', 'at')} = joined(result);
            ${spectrumAt(out, '(b * p.channels + c)', 'partner')} = joined_partner(result);`,
        }),
        ...transforms(
          {
            ...{ variant: 'y', buffer: out, groups: count * channels, points, columns: features, buffers: ['y'], numbers: { first } },
            store: writePoint(
              'y',
              launch.dtype('y') ?? 'f32',
              (t) => `(((p.first + group / p.channels) * p.length + ${t}) * p.channels + group % p.channels) * p.features + column`,
            ),
          },
          true,
        ),
      ]),
    ],
    scratch: {
      inputs: { dtype: 'f32', size: 2 * most * points * features },
      ...(out === 'inputs' ? {} : { outputs: { dtype: 'f32', size: 2 * most * channels * points * features } }),
    },
  };
};

type Gradients = 'dy' | 'dx' | 'dkernel' | 'dD' | 'dreverseKernel';

export const fftConvBackwardGpu: GpuKernel<Operands | Gradients, Sizes | Pitches | 'dyPitch' | 'spans'> = (launch) => {
  const { parameters, has, dtype } = launch;
  const { channels, features, points, taps, reverseTaps } = parameters;
  const filters = has('dkernel') || has('dD') || has('dreverseKernel');
  const rounds = roundsOf(launch);
  const most = Math.max(...rounds.map(({ count }) => count));
  const pairsOf = pairCount(points);
  // Behind the filters' spectra.
  const sums = 'p.channels * p.points * p.features';
  const inputsOf = (name: 'x' | 'dy', { first, count }: { first: number; count: number }) =>
    transforms(
      {
        ...{ variant: name, buffer: name === 'x' ? 'inputs' : 'cotangents', groups: name === 'x' ? count : count * channels, points, columns: features },
        ...{ buffers: [name], numbers: { first } },
        functions: readCode(name),
        load: name === 'x' ? readPoint('p.first + group', 'column') : readPoint('p.first + group / p.channels', 'group % p.channels * p.features + column'),
      },
      false,
    );
  const common = { numbers: { pairs: pairsOf }, functions: filterCode };
  const gradient = (name: Gradients, count: number, index: string, value: string): GpuDispatch[] =>
    has(name)
      ? [perElement({ variant: name, count, buffers: [pairs('work', 'read'), name], body: `${index} ${name}[p.${name}_at + i] = ${value} * (0.25 / f32(p.points));` })]
      : [];
  const real = (filter: string, t: string): string =>
    `work[${sums} + (${filter} / p.features * p.points + (${t}) / 2u) * p.features + ${filter} % p.features][(${t}) % 2u]`;
  return {
    dispatches: [
      ...(has('dx') ? filterSpectra(launch) : []),
      ...rounds.flatMap((round, n) => {
        const { first, count } = round;
        return [
          ...(filters ? inputsOf('x', round) : []),
          ...inputsOf('dy', round),
          ...(filters
            ? [
                perElement({
                  variant: `sums ${points} ${n === 0 ? 'first' : 'more'}`,
                  count: channels * pairsOf * features,
                  buffers: [pairs('inputs', 'read'), pairs('cotangents', 'read'), pairs('work'), pairs('table')],
                  functions: filterCode,
                  numbers: { pairs: pairsOf, count },
                  body: `
                    let h = i % p.features;
                    let pair = i / p.features % p.pairs;
                    let c = i / p.features / p.pairs;
                    ${pairCode(points)}
                    let root = ${entry('table', 'k')};
                    var sum = ${n === 0 ? 'vec2<f32>(0.0)' : spectrumAt('work', 'c', 'at', sums)};
                    var sum_partner = ${n === 0 ? 'vec2<f32>(0.0)' : spectrumAt('work', 'c', 'partner', sums)};
                    for (var b = 0u; b < p.count; b++) {
                      let result = filtered_back(${halvesAt('cotangents', '(b * p.channels + c)')}, ${halvesAt('inputs', 'b')}, root);
                      sum += joined(result);
                      sum_partner += joined_partner(result);
                    }
                    ${spectrumAt('work', 'c', 'at', sums)} = sum;
                    ${spectrumAt('work', 'c', 'partner', sums)} = sum_partner;`,
                }),
              ]
            : []),
          ...(has('dx')
            ? [
                perElement({
                  ...common,
                  variant: `dx ${points}`,
                  count: count * pairsOf * features,
                  buffers: [pairs('inputs'), pairs('cotangents', 'read'), pairs('work', 'read'), pairs('table')],
                  body: `
                    let h = i % p.features;
                    let pair = i / p.features % p.pairs;
                    let b = i / p.features / p.pairs;
                    ${pairCode(points)}
                    let root = ${entry('table', 'k')};
                    var sum = vec2<f32>(0.0);
                    var sum_partner = vec2<f32>(0.0);
                    for (var c = 0u; c < p.channels; c++) {
                      let result = filtered_back(${halvesAt('cotangents', '(b * p.channels + c)')}, ${halvesAt('work', 'c')}, root);
                      sum += joined(result);
                      sum_partner += joined_partner(result);
                    }
                    ${spectrumAt('inputs', 'b', 'at')} = sum;
                    ${spectrumAt('inputs', 'b', 'partner')} = sum_partner;`,
                }),
                ...transforms(
                  {
                    ...{ variant: 'dx', buffer: 'inputs', groups: count, points, columns: features, buffers: ['dx'], numbers: { first } },
                    store: writePoint('dx', dtype('dx') ?? 'f32', (t) => `((p.first + group) * p.length + ${t}) * p.features + column`),
                  },
                  true,
                ),
              ]
            : []),
        ];
      }),
      ...(filters ? transforms({ variant: 'gradients', buffer: 'work', begin: sums, groups: channels, points, columns: features }, true) : []),
      ...gradient('dkernel', channels * features * taps, 'let row = i / p.taps; let t = i % p.taps;', real('row', 't')),
      ...gradient('dD', channels * features, '', real('i', '0u')),
      ...gradient(
        'dreverseKernel',
        channels * features * reverseTaps,
        `let row = i / p.reverseTaps; let t = 2u * p.points - 1u - i % p.reverseTaps;`,
        real('row', 't'),
      ),
    ],
    scratch: {
      inputs: { dtype: 'f32', size: 2 * most * points * features },
      cotangents: { dtype: 'f32', size: 2 * most * channels * points * features },
    },
  };
};
