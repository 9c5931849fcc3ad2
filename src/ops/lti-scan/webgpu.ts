import { fold, type GpuBinding, type GpuDispatch, type GpuFeatures, type GpuKernel, type GpuLaunch } from '../../tensor/index.js';
import { complexBuffer, wgslComplex } from '../../wgsl/complex.js';
import { perElement } from '../../wgsl/per-element.js';
import { teamSum } from '../../wgsl/rows.js';
import { repeat } from '../../wgsl/vectors.js';

type Sizes = 'batch' | 'features' | 'states' | 'channels' | 'rank' | 'uPitch';

/** Invocations of a workgroup at least: features share one where they have few states. */
const leastThreads = 64;

/** An invocation has a state; a team has a feature's. */
function teamsOf(states: number) {
  const team = 2 ** Math.ceil(Math.log2(states));
  const threads = Math.max(leastThreads, team);
  return { team, threads, perGroup: threads / team };
}

const flat = new Set(['u', 'D', 'steps', 'sequenceStarts', 'y', 'dy', 'du']);
const bindings = <B extends string>({ has }: GpuLaunch<B>, names: readonly B[]): (string | GpuBinding)[] =>
  names.filter(has).map((name) => (flat.has(name) ? name : complexBuffer(name)));

interface Shape {
  readonly channels: number;
  readonly rank: number;
  readonly rule: number;
  readonly skip: boolean;
}

/** WGSL of a team's system: loaded once, and made discrete again wherever a step is as long as `time`. */
const systemCode = ({ rule }: Pick<Shape, 'rule'>, gpu: GpuFeatures, team: number, threads: number): string => `
  ${wgslComplex}
  ${teamSum(gpu, 'team_sum', team, threads)}
  ${
    rule === 0
      ? ''
      : `fn gain_of(z: vec2<f32>) -> vec2<f32> { return ${rule === 1 ? 'phi(z)' : 'inverse(vec2<f32>(1.0, 0.0) - 0.5 * z)'}; }
  fn gain_slope(z: vec2<f32>) -> vec2<f32> {
    ${rule === 1 ? 'return phi_slope(z);' : 'let gain = gain_of(z); return 0.5 * times(gain, gain);'}
  }`
  }`;

/** What a system is made of, as rows of [features, states] complex numbers, and how many rows there are of each; D is real, in each state's place. */
const rowsOf = ({ channels, rank, skip }: Shape) =>
  [['change', 1], ['input', 1], ['C', channels], ['left', rank], ['right', rank], ['D', skip ? channels : 0]] as const;

/** The first row of each. */
function placesOf(shape: Shape): Readonly<Record<ReturnType<typeof rowsOf>[number][0], number>> & { readonly all: number } {
  let next = 0;
  const places = Object.fromEntries(rowsOf(shape).map(([name, rows]) => [name, (next += rows) - rows]));
  return { ...places, all: next } as ReturnType<typeof placesOf>;
}

/** A dispatch that copies between the rows of `whole` (scratch) and the buffers they belong to: a shader has few bindings. */
function copyRows(shape: Shape, { features, states }: { features: number; states: number }, whole: string, buffers: Readonly<Partial<Record<keyof ReturnType<typeof placesOf>, string>>>, into: boolean): GpuDispatch {
  const places = placesOf(shape);
  const parts = rowsOf(shape).filter(([name, rows]) => rows > 0 && buffers[name] !== undefined);
  const copies = parts.map(([name, rows]) => {
    const other = buffers[name] as string;
    const at = `${other}[p.${other}_at + `;
    const own = `${whole}[p.${whole}_at + i]`;
    const first = `(row - ${places[name]}u)`;
    const all = `${first} * plane + i % plane]`;
    const copy =
      name !== 'D'
        ? into ? `${own} = ${at}${all};` : `${at}${all} = ${own};`
        : into
          ? `${own} = vec2<f32>(${at}${first} * p.features + i % plane / p.states], 0.0);`
          : `if (i % p.states == 0u) { ${at}${first} * p.features + i % plane / p.states] = ${own}.x; }`;
    return `if (row >= ${places[name]}u && row < ${places[name] + rows}u) { ${copy} }`;
  });
  return perElement({
    variant: `lti ${into ? 'pack' : 'unpack'} ${shape.channels} ${shape.rank}`,
    count: places.all * features * states,
    buffers: [...parts.map(([name]) => (name === 'D' ? (buffers.D as string) : complexBuffer(buffers[name] as string))), complexBuffer(whole, into ? undefined : 'read')],
    body: `
      let plane = p.features * p.states;
      let row = i / plane;
      ${copies.join('\n')}`,
  });
}

/** Statements: the system's numbers of this invocation's state `n` of feature `h`. @param packed whether they are rows of `system` */
function load(shape: Shape, packed: boolean): string {
  const { channels, rank } = shape;
  const places = placesOf(shape);
  const from = (name: 'change' | 'input' | 'C' | 'left' | 'right', row: number) =>
    packed ? `system[p.system_at + ${places[name] + row}u * plane + i]` : `${name}[p.${name}_at + ${row}u * plane + i]`;
  return `
  let i = h * p.states + n;
  let plane = p.features * p.states;
  var rate = vec2<f32>(0.0);
  var weight = vec2<f32>(0.0);
  ${repeat(channels, (c) => `var output_${c} = vec2<f32>(0.0);`)}
  ${repeat(rank, (r) => `var left_${r} = vec2<f32>(0.0); var right_${r} = vec2<f32>(0.0);`)}
  if (present) {
    rate = ${from('change', 0)};
    weight = ${from('input', 0)};
    ${repeat(channels, (c) => `output_${c} = ${from('C', c)};`)}
    ${repeat(rank, (r) => `left_${r} = ${from('left', r)}; right_${r} = ${from('right', r)};`)}
  }
  ${repeat(shape.skip ? channels : 0, (c) => `let skip_${c} = ${packed ? `system[p.system_at + ${places.D + c}u * plane + h * p.states].x` : `D[p.D_at + ${c}u * p.features + h]`};`)}
  var step_change = rate;
  var step_input = weight;`;
}

/** Statements: `step_change` and `step_input` of row `row`. */
const discretize = (rule: number): string =>
  rule === 0
    ? ''
    : `
  let time = steps[p.steps_at + row];
  let z = time * rate;
  let gain = gain_of(z);
  step_change = times(z, gain);
  step_input = time * times(gain, weight);`;

/** Statements: `s` moves by a position with input `value`. All invocations call it. */
const move = ({ rank }: Shape): string => `
  ${repeat(rank, (r) => `let inner_${r} = 2.0 * team_sum(thread, times(right_${r}, s).x);`)}
  s += times(step_change, s) + value * step_input${Array.from({ length: rank }, (_, r) => ` + inner_${r} * left_${r}`).join('')};`;

const outputs = ({ channels, skip }: Shape): string =>
  repeat(
    channels,
    (c) => `
  {
    let total = 2.0 * team_sum(thread, times(output_${c}, s).x);
    let at = ${c}u * p.features + h;
    if (live && n == 0u) { y[p.y_at + row * p.channels * p.features + at] = total${skip ? ` + skip_${c} * value` : ''}; }
  }`,
  );

const head = (threads: number): string => `
  @compute @workgroup_size(${threads})
  fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
          @builtin(local_invocation_index) thread: u32) {`;

/** Where an invocation is: `unit` counts features, of sequences or of all at once. */
const place = (team: number, perGroup: number): string => `
  let n = thread % ${team}u;
  let wanted = flat_workgroup(id, count) * ${perGroup}u + thread / ${team}u;
  let live = wanted < p.units;
  let present = live && n < p.states;
  let unit = min(wanted, p.units - 1u);`;

const systemBuffers = { change: 'change', input: 'input', C: 'C', left: 'left', right: 'right', D: 'D' } as const;

const shapeOf = ({ channels, rank }: { channels: number; rank: number }, rule: number, skip: boolean): Shape => ({ channels, rank, rule, skip });
const variantOf = (name: string, { channels, rank, rule, skip }: Shape, team: number): string => `${name} ${channels} ${rank} ${rule} ${Number(skip)} ${team}`;

export const ltiScanGpu: GpuKernel<
  'u' | 'change' | 'input' | 'C' | 'D' | 'left' | 'right' | 'steps' | 'initialState' | 'sequenceStarts' | 'y' | 'finalState' | 'kept',
  Sizes | 'length' | 'rule' | 'chunk'
> = (launch) => {
  const { gpu, parameters, has } = launch;
  const { batch, features, states, rule } = parameters;
  const shape = shapeOf(parameters, rule, has('D'));
  const { team, threads, perGroup } = teamsOf(states);
  const units = batch * features;
  return {
    scratch: { system: { dtype: 'f32', size: 2 * placesOf(shape).all * features * states } },
    dispatches: [
      copyRows(shape, parameters, 'system', systemBuffers, true),
      {
        variant: variantOf('lti scan', shape, team),
        buffers: [complexBuffer('system', 'read'), ...bindings(launch, ['u', 'steps', 'initialState', 'sequenceStarts', 'y', 'finalState', 'kept'])],
        numbers: { units },
        workgroups: fold(Math.ceil(units / perGroup)),
        code: () => `
          ${systemCode(shape, gpu, team, threads)}
          ${head(threads)}
            ${place(team, perGroup)}
            let b = unit / p.features;
            let h = unit % p.features;
            ${load(shape, true)}
            var s = vec2<f32>(0.0);
            ${has('initialState') ? 'if (present) { s = initialState[p.initialState_at + unit * p.states + n]; }' : ''}
            for (var t = 0u; t < p.length; t++) {
              let row = b * p.length + t;
              ${
                has('kept')
                  ? `if (present && t % p.chunk == 0u) {
                let chunks = (p.length + p.chunk - 1u) / p.chunk;
                kept[p.kept_at + ((b * chunks + t / p.chunk) * p.features + h) * p.states + n] = s;
              }`
                  : ''
              }
              ${has('sequenceStarts') ? 'if (sequenceStarts[p.sequenceStarts_at + row] != 0) { s = vec2<f32>(0.0); }' : ''}
              let value = u[p.u_at + row * p.uPitch + h];
              ${discretize(rule)}
              ${move(shape)}
              ${outputs(shape)}
            }
            if (present) { finalState[p.finalState_at + unit * p.states + n] = s; }
          }`,
      },
    ],
  };
};

export const ltiStepGpu: GpuKernel<'state' | 'u' | 'change' | 'input' | 'C' | 'D' | 'left' | 'right' | 'y', Sizes> = (launch) => {
  const { gpu, parameters, has } = launch;
  const { batch, features, states } = parameters;
  const shape = shapeOf(parameters, 0, has('D'));
  const { team, threads, perGroup } = teamsOf(states);
  const units = batch * features;
  return {
    dispatches: [
      {
        variant: variantOf('lti step', shape, team),
        buffers: bindings(launch, ['state', 'u', 'change', 'input', 'C', 'D', 'left', 'right', 'y']),
        numbers: { units },
        workgroups: fold(Math.ceil(units / perGroup)),
        code: () => `
          ${systemCode(shape, gpu, team, threads)}
          ${head(threads)}
            ${place(team, perGroup)}
            let row = unit / p.features;
            let h = unit % p.features;
            ${load(shape, false)}
            var s = vec2<f32>(0.0);
            if (present) { s = state[p.state_at + unit * p.states + n]; }
            let value = u[p.u_at + row * p.uPitch + h];
            ${move(shape)}
            if (present) { state[p.state_at + unit * p.states + n] = s; }
            ${outputs(shape)}
          }`,
      },
    ],
  };
};

/** A team goes back through the sequences of a batch, one after another; the states of a chunk are worked out again. */
export const ltiScanBackwardGpu: GpuKernel<
  | ('u' | 'change' | 'input' | 'C' | 'D' | 'left' | 'right' | 'steps' | 'sequenceStarts' | 'kept' | 'dy' | 'dFinalState')
  | ('du' | 'dChange' | 'dInput' | 'dC' | 'dD' | 'dLeft' | 'dRight' | 'dInitialState'),
  Sizes | 'length' | 'rule' | 'chunk' | 'dyPitch'
> = (launch) => {
  const { gpu, parameters, has } = launch;
  const { batch, features, states, rule, channels, rank, chunk } = parameters;
  const shape = shapeOf(parameters, rule, has('D'));
  const { team, threads, perGroup } = teamsOf(states);
  const ends = has('dFinalState') || has('dInitialState');
  const places = placesOf(shape);
  const made = { change: 'dChange', input: 'dInput', C: 'dC', left: 'dLeft', right: 'dRight', D: 'dD' } as const;
  // Of the state before a position.
  const before = `select(states_of[p.states_of_at + (unit * p.chunk + t) * p.states + n], vec2<f32>(0.0), ${has('sequenceStarts') ? 'sequenceStarts[p.sequenceStarts_at + row] != 0' : 'false'})`;
  const row = 'let row = b * p.length + first + t; let value = u[p.u_at + row * p.uPitch + h];';
  const sums: (readonly [name: string, row: number])[] = [
    ['sum_change', places.change],
    ['sum_input', places.input],
    ...Array.from({ length: channels }, (_, c) => [`sum_c${c}`, places.C + c] as const),
    ...Array.from({ length: rank }, (_, r) => [`sum_l${r}`, places.left + r] as const),
    ...Array.from({ length: rank }, (_, r) => [`sum_r${r}`, places.right + r] as const),
  ];
  const whole = 2 * places.all * features * states;
  const endCount = batch * features * states;
  return {
    scratch: {
      states_of: { dtype: 'f32', size: 2 * features * chunk * states },
      system: { dtype: 'f32', size: whole },
      sums: { dtype: 'f32', size: whole },
      ...(ends && { ends: { dtype: 'f32' as const, size: 2 * endCount } }),
    },
    dispatches: [
      copyRows(shape, parameters, 'system', systemBuffers, true),
      ...(ends
        ? [
            perElement({
              variant: `lti ends ${Number(has('dFinalState'))}`,
              count: endCount,
              buffers: [...bindings(launch, ['dFinalState']), complexBuffer('ends')],
              body: `ends[p.ends_at + i] = ${has('dFinalState') ? 'dFinalState[p.dFinalState_at + i]' : 'vec2<f32>(0.0)'};`,
            }),
          ]
        : []),
      {
        variant: `${variantOf('lti scan backward', shape, team)} ${Number(has('dD'))}`,
        buffers: [
          complexBuffer('system', 'read'),
          ...bindings(launch, ['u', 'steps', 'sequenceStarts', 'kept', 'dy', 'du']),
          ...['states_of', 'sums', ...(ends ? ['ends'] : [])].map((name) => complexBuffer(name)),
        ],
        numbers: { units: features },
        workgroups: fold(Math.ceil(features / perGroup)),
        code: () => `
          ${systemCode(shape, gpu, team, threads)}
          ${head(threads)}
            ${place(team, perGroup)}
            let h = unit;
            ${load(shape, true)}
            ${sums.map(([name]) => `var ${name} = vec2<f32>(0.0);`).join('\n')}
            ${has('dD') ? repeat(channels, (c) => `var sum_d${c} = 0.0;`) : ''}
            let chunks = (p.length + p.chunk - 1u) / p.chunk;
            for (var b = 0u; b < p.batch; b++) {
              let own = (b * p.features + h) * p.states + n;
              var adjoint = vec2<f32>(0.0);
              ${ends ? 'if (present) { adjoint = ends[p.ends_at + own]; }' : ''}
              for (var back = 0u; back < chunks; back++) {
                let part = chunks - 1u - back;
                let first = part * p.chunk;
                let length = min(p.chunk, p.length - first);
                var s = vec2<f32>(0.0);
                if (present) { s = kept[p.kept_at + ((b * chunks + part) * p.features + h) * p.states + n]; }
                for (var t = 0u; t < length; t++) {
                  ${row}
                  if (present) { states_of[p.states_of_at + (unit * p.chunk + t) * p.states + n] = s; }
                  ${has('sequenceStarts') ? 'if (sequenceStarts[p.sequenceStarts_at + row] != 0) { s = vec2<f32>(0.0); }' : ''}
                  ${discretize(rule)}
                  ${move(shape)}
                }
                var after = s;
                for (var left_over = length; left_over > 0u; left_over--) {
                  let t = left_over - 1u;
                  ${row}
                  ${discretize(rule)}
                  var before = vec2<f32>(0.0);
                  if (present) { before = ${before}; }
                  var du_own = 0.0;
                  ${repeat(
                    channels,
                    (c) => `
                  {
                    let at = ${c}u * p.features + h;
                    let slope = ${has('dy') ? 'dy[p.dy_at + row * p.dyPitch + at]' : '0.0'};
                    adjoint += 2.0 * slope * conjugate(output_${c});
                    sum_c${c} += 2.0 * slope * conjugate(after);
                    ${has('dD') ? `sum_d${c} += slope * value;` : ''}
                    ${has('D') ? `if (n == 0u) { du_own += slope * skip_${c}; }` : ''}
                  }`,
                  )}
                  du_own += dot(adjoint, step_input);
                  let du_all = team_sum(thread, du_own);
                  ${has('du') ? 'if (live && n == 0u) { du[p.du_at + row * p.features + h] = du_all; }' : ''}
                  var next = adjoint + times(adjoint, conjugate(step_change));
                  ${repeat(
                    rank,
                    (r) => `
                  {
                    let inner = 2.0 * team_sum(thread, times(right_${r}, before).x);
                    let slope = 2.0 * team_sum(thread, dot(adjoint, left_${r}));
                    sum_l${r} += inner * adjoint;
                    sum_r${r} += slope * conjugate(before);
                    next += slope * conjugate(right_${r});
                  }`,
                  )}
                  let d_change = times(adjoint, conjugate(before));
                  let d_input = value * adjoint;
                  ${
                    rule === 0
                      ? 'sum_change += d_change; sum_input += d_input;'
                      : `let slope_of_gain = gain_slope(z);
                  sum_change += time * (times(d_change, conjugate(gain + times(z, slope_of_gain))) + time * times(d_input, conjugate(times(slope_of_gain, weight))));
                  sum_input += time * times(d_input, conjugate(gain));`
                  }
                  adjoint = next;
                  ${has('sequenceStarts') ? 'if (sequenceStarts[p.sequenceStarts_at + row] != 0) { adjoint = vec2<f32>(0.0); }' : ''}
                  if (present) { after = states_of[p.states_of_at + (unit * p.chunk + t) * p.states + n]; }
                }
              }
              ${ends ? 'if (present) { ends[p.ends_at + own] = adjoint; }' : ''}
            }
            if (present) {
              ${sums.map(([name, row]) => `sums[p.sums_at + ${row}u * plane + i] = ${name};`).join('\n')}
              ${has('dD') ? repeat(channels, (c) => `sums[p.sums_at + ${places.D + c}u * plane + i] = vec2<f32>(sum_d${c}, 0.0);`) : ''}
            }
          }`,
      },
      copyRows(shape, parameters, 'sums', made, false),
      ...(has('dInitialState')
        ? [
            perElement({
              variant: 'lti initial',
              count: endCount,
              buffers: [complexBuffer('ends', 'read'), complexBuffer('dInitialState')],
              body: 'dInitialState[p.dInitialState_at + i] = ends[p.ends_at + i];',
            }),
          ]
        : []),
    ],
  };
};
