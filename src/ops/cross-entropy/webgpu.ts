import type { GpuKernel, GpuLaunch } from '../../tensor/index.js';
import { axisSums } from '../../wgsl/axis-sums.js';
import { normaliser, normaliserCode, normaliserStart, wideRowHold } from '../../wgsl/normaliser.js';
import { perElement } from '../../wgsl/per-element.js';
import { perRow, sumOf } from '../../wgsl/rows.js';
import { lanesOf, vectorOf } from '../../wgsl/vectors.js';

export const countedScaleGpu: GpuKernel<'targets' | 'scale', 'count'> = ({ gpu, parameters: { count } }) => ({
  dispatches: [
    perRow({
      variant: 'counted',
      gpu,
      rows: 1,
      items: count,
      buffers: ['targets', 'scale'],
      reductions: [sumOf('team_sum', 'u32')],
      values: {},
      body: (pass) => `
        var own = 0u;
        ${pass('if (targets[p.targets_at + c] != -1) { own += 1u; }')}
        let counted = team_sum(thread, own);
        if (live && member == 0u) { scale[p.scale_at] = select(1.0 / f32(counted), 0.0, counted == 0u); }`,
    }),
  ],
});

/** A quiet NaN that the compiler does not see as a constant, which WGSL has none for. */
const nan = { numbers: { nan_bits: 0x7fc00000 }, code: 'bitcast<f32>(p.nan_bits)' };

/** The row's target, and how many items of the row matter for it: none where the target is left out or impossible. */
const rowTarget = (gone: string) => `
  let wanted = targets[p.targets_at + select(0u, row, live)];
  let known = wanted >= 0 && u32(wanted) < p.columns;
  ${gone}`;

const lossCode = `
  if (live && member == 0u) {
    var loss = select(${nan.code}, 0.0, wanted == -1);
    // Two differences of numbers of one size: m + ln Σ as one number would lose the logarithm's digits to a large m.
    if (known) { loss = log(all.y) - (logit - all.x); }
    losses[p.losses_at + row] = loss;
  }`;

/** The logit of the target, read by all of the team before any of them overwrites the row. */
const targetLogit = (lanes: number, pitch: string) => {
  const place = `p.logits_at + row * (${pitch} / ${lanes}u) + u32(wanted) / ${lanes}u`;
  return `
  var logit = 0.0;
  if (live && known) { logit = f32(logits[${place}]${lanes === 1 ? '' : '[u32(wanted) % 4u]'}); }`;
};

const ownNormaliser = (pass: (statements: string) => string) => `
  var own = ${normaliserStart};
  ${pass('if (known) { own = with_item(own, value); }')}
  let all = normaliser(thread, own);`;

/** The gradient of one item with the given factor. */
const gradientCode = (lanes: number, factor: string) => `
  var d = ${vectorOf(lanes)}(select(${nan.code}, 0.0, wanted == -1));
  if (known) {
    d = exp(value - all.x) * (${factor} / all.y);
    ${
      lanes === 1
        ? `if (c == u32(wanted)) { d -= ${factor}; }`
        : `if (c == u32(wanted) / 4u) { d[u32(wanted) % 4u] -= ${factor}; }`
    }
  }`;

const logitsAt = (lanes: number, pitch: string) =>
  `${vectorOf(lanes)}(logits[p.logits_at + row * (${pitch} / ${lanes}u) + c])`;

export const tokenLossesGpu: GpuKernel<'logits' | 'targets' | 'losses' | 'normalisers', 'rows' | 'columns' | 'logitsPitch'> = (
  launch,
) => {
  const { gpu, parameters, dtype, has } = launch;
  const { rows, columns, logitsPitch } = parameters;
  const lanes = lanesOf(launch, [columns, logitsPitch], ['logits']);
  return {
    dispatches: [
      perRow({
        variant: `losses/${lanes}`,
        gpu,
        rows,
        items: columns / lanes,
        buffers: [
          { name: 'logits', as: vectorOf(lanes, dtype('logits') ?? 'f32') },
          ...['targets', 'losses'],
          ...(has('normalisers') ? ['normalisers'] : []),
        ],
        numbers: nan.numbers,
        functions: normaliserCode(lanes),
        reductions: [normaliser],
        values: { value: [vectorOf(lanes), logitsAt(lanes, 'p.logitsPitch')] },
        body: (pass) => `
          ${rowTarget('')}
          ${targetLogit(lanes, 'p.logitsPitch')}
          ${ownNormaliser(pass)}
          ${lossCode}
          ${has('normalisers') ? storeNormalisers : ''}`,
      }),
    ],
  };
};

const storeNormalisers = `
  if (live && member == 0u) {
    normalisers[p.normalisers_at + 2u * row] = all.x;
    normalisers[p.normalisers_at + 2u * row + 1u] = all.y;
  }`;

export const tokenLossesBackwardGpu: GpuKernel<
  'logits' | 'targets' | 'normalisers' | 'scale' | 'upstream' | 'dlogits',
  'rows' | 'columns' | 'logitsPitch'
> = (launch) => {
  const { gpu, parameters, dtype } = launch;
  const { rows, columns, logitsPitch } = parameters;
  const lanes = lanesOf(launch, [columns, logitsPitch], ['logits', 'dlogits']);
  const out = vectorOf(lanes, dtype('dlogits') ?? 'f32');
  return {
    dispatches: [
      perRow({
        variant: `gradients/${lanes}`,
        gpu,
        rows,
        items: columns / lanes,
        buffers: [
          { name: 'logits', as: vectorOf(lanes, dtype('logits') ?? 'f32') },
          ...['targets', 'normalisers', 'scale', 'upstream'],
          { name: 'dlogits', as: out },
        ],
        numbers: nan.numbers,
        values: { value: [vectorOf(lanes), logitsAt(lanes, 'p.logitsPitch')] },
        body: (pass) => `
          ${rowTarget('')}
          let factor = scale[p.scale_at] * upstream[p.upstream_at];
          let pair = p.normalisers_at + 2u * select(0u, row, live);
          let all = vec2<f32>(normalisers[pair], normalisers[pair + 1u]);
          ${pass(`
            ${gradientCode(lanes, 'factor')}
            dlogits[p.dlogits_at + row * (p.columns / ${lanes}u) + c] = ${out}(d);`)}`,
      }),
    ],
  };
};

export const tokenLossesInPlaceGpu: GpuKernel<'logits' | 'targets' | 'losses', 'rows' | 'columns'> = (launch) => {
  const { gpu, parameters, dtype } = launch;
  const { rows, columns } = parameters;
  const lanes = lanesOf(launch, [columns], ['logits']);
  const logits = vectorOf(lanes, dtype('logits') ?? 'f32');
  return {
    dispatches: [
      perRow({
        variant: `in-place/${lanes}`,
        gpu,
        rows,
        items: columns / lanes,
        buffers: [{ name: 'logits', as: logits }, 'targets', 'losses'],
        numbers: nan.numbers,
        functions: normaliserCode(lanes),
        reductions: [normaliser],
        values: { value: [vectorOf(lanes), logitsAt(lanes, 'p.columns')] },
        hold: wideRowHold(dtype('logits')),
        body: (pass) => `
          ${rowTarget('')}
          ${targetLogit(lanes, 'p.columns')}
          ${ownNormaliser(pass)}
          storageBarrier();
          ${lossCode}
          ${pass(`
            ${gradientCode(lanes, '1.0')}
            logits[p.logits_at + row * (p.columns / ${lanes}u) + c] = ${logits}(d);`)}`,
      }),
    ],
  };
};

export const scaledSumGpu: GpuKernel<'values' | 'scale' | 'total', 'count'> = ({ gpu, parameters: { count } }) => {
  const { dispatches, partials } = axisSums({
    gpu,
    variant: 'scaled',
    ...{ outer: 1, length: count, inner: 1 },
    from: ['values'],
    to: ['scale', 'total'],
    load: 'values[p.values_at + at]',
    store: 'total[p.total_at] = scale[p.scale_at] * sum;',
  });
  return { dispatches, scratch: { partial: { dtype: 'f32', size: partials } } };
};

export const columnSumsGpu: GpuKernel<'x' | 'y', 'rows' | 'columns' | 'accumulate'> = ({ gpu, parameters }) => {
  const { rows, columns, accumulate } = parameters;
  const { dispatches, partials } = axisSums({
    gpu,
    variant: accumulate === 0 ? 'columns' : 'more-columns',
    ...{ outer: 1, length: rows, inner: columns },
    from: ['x'],
    to: ['y'],
    load: 'f32(x[p.x_at + at])',
    store: `y[p.y_at + i] ${accumulate === 0 ? '=' : '+='} sum;`,
  });
  return { dispatches, scratch: { partial: { dtype: 'f32', size: partials } } };
};

/** An invocation for each number, or for four, of `count`. */
function perVector<B extends string>(launch: GpuLaunch<B>, variant: string, names: readonly B[], factors: readonly string[], count: number, body: (at: (name: B) => string, as: (name: B) => string, lanes: number) => string) {
  const lanes = lanesOf(launch, [count], names);
  const as = (name: B) => vectorOf(lanes, launch.dtype(name) ?? 'f32');
  return perElement({
    variant: `${variant}/${lanes}`,
    count: count / lanes,
    buffers: [...names.map((name) => ({ name, as: as(name) })), ...factors],
    body: body((name) => `${name}[p.${name}_at + i]`, as, lanes),
  });
}

export const multiplyInPlaceGpu: GpuKernel<'factor' | 'scale' | 'values', 'count'> = (launch) => ({
  dispatches: [
    perVector(launch, 'multiply', ['values'], ['factor', 'scale'], launch.parameters.count, (at, as, lanes) => `
      let both = f32(factor[p.factor_at]) * scale[p.scale_at];
      ${at('values')} = ${as('values')}(both * ${vectorOf(lanes)}(${at('values')}));`),
  ],
});

export const scaleIntoGpu: GpuKernel<'factor' | 'scale' | 'values' | 'sums', 'count' | 'accumulate'> = (launch) => {
  const { count, accumulate } = launch.parameters;
  const variant = accumulate === 0 ? 'scale-into' : 'scale-onto';
  return {
    dispatches: [
      perVector(launch, variant, ['values', 'sums'], ['factor', 'scale'], count, (at, as, lanes) => `
        let f = ${vectorOf(lanes)}(f32(factor[p.factor_at]) * scale[p.scale_at]);
        let sum = ${accumulate === 0 ? '' : `${vectorOf(lanes)}(${at('sums')}) + `}f * ${vectorOf(lanes)}(${at('values')});
        ${at('sums')} = ${as('sums')}(sum);`),
    ],
  };
};
