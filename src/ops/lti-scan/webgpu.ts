import { fold, type GpuBinding, type GpuFeatures, type GpuKernel, type GpuLaunch } from '../../tensor/index.js';
import { complexBuffer, wgslComplex } from '../../wgsl/complex.js';
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

const flat = new Set(['u', 'D', 'steps', 'sequenceStarts', 'y', 'dy', 'du', 'dD']);
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

/** Statements: the system's numbers of this invocation's state `n` of feature `h`. */
const load = ({ channels, rank }: Shape): string => `
  let i = h * p.states + n;
  var rate = vec2<f32>(0.0);
  var weight = vec2<f32>(0.0);
  ${repeat(channels, (c) => `var output_${c} = vec2<f32>(0.0);`)}
  ${repeat(rank, (r) => `var left_${r} = vec2<f32>(0.0); var right_${r} = vec2<f32>(0.0);`)}
  if (present) {
    rate = change[p.change_at + i];
    weight = input[p.input_at + i];
    ${repeat(channels, (c) => `output_${c} = C[p.C_at + ${c}u * p.features * p.states + i];`)}
    ${repeat(rank, (r) => `left_${r} = left[p.left_at + ${r}u * p.features * p.states + i]; right_${r} = right[p.right_at + ${r}u * p.features * p.states + i];`)}
  }
  var step_change = rate;
  var step_input = weight;`;

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
    if (live && n == 0u) { y[p.y_at + row * p.channels * p.features + at] = total${skip ? ' + D[p.D_at + at] * value' : ''}; }
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

const shapeOf = ({ channels, rank }: { channels: number; rank: number }, rule: number, skip: boolean): Shape => ({ channels, rank, rule, skip });
const variantOf = (name: string, { channels, rank, rule }: Shape, team: number): string => `${name} ${channels} ${rank} ${rule} ${team}`;

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
    dispatches: [
      {
        variant: variantOf('lti scan', shape, team),
        buffers: bindings(launch, ['u', 'change', 'input', 'C', 'D', 'left', 'right', 'steps', 'initialState', 'sequenceStarts', 'y', 'finalState', 'kept']),
        numbers: { units },
        workgroups: fold(Math.ceil(units / perGroup)),
        code: () => `
          ${systemCode(shape, gpu, team, threads)}
          ${head(threads)}
            ${place(team, perGroup)}
            let b = unit / p.features;
            let h = unit % p.features;
            ${load(shape)}
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
            ${load(shape)}
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
  const { features, states, rule, channels, rank, chunk } = parameters;
  const shape = shapeOf(parameters, rule, has('D'));
  const { team, threads, perGroup } = teamsOf(states);
  const all = ['u', 'change', 'input', 'C', 'D', 'left', 'right', 'steps', 'sequenceStarts', 'kept', 'dy', 'dFinalState'] as const;
  const made = ['du', 'dChange', 'dInput', 'dC', 'dD', 'dLeft', 'dRight', 'dInitialState'] as const;
  // Of the state before a position.
  const before = `select(states_of[p.states_of_at + (unit * p.chunk + t) * p.states + n], vec2<f32>(0.0), ${has('sequenceStarts') ? 'sequenceStarts[p.sequenceStarts_at + row] != 0' : 'false'})`;
  const row = 'let row = b * p.length + first + t; let value = u[p.u_at + row * p.uPitch + h];';
  const sums: (readonly [name: string, kind: 'dC' | 'dLeft' | 'dRight', i: number])[] = [
    ...Array.from({ length: channels }, (_, c) => [`sum_c${c}`, 'dC', c] as const),
    ...Array.from({ length: rank }, (_, r) => [`sum_l${r}`, 'dLeft', r] as const),
    ...Array.from({ length: rank }, (_, r) => [`sum_r${r}`, 'dRight', r] as const),
  ];
  return {
    scratch: { states_of: { dtype: 'f32', size: 2 * features * chunk * states } },
    dispatches: [
      {
        variant: variantOf('lti scan backward', shape, team),
        buffers: [...bindings(launch, [...all, ...made]), complexBuffer('states_of')],
        numbers: { units: features },
        workgroups: fold(Math.ceil(features / perGroup)),
        code: () => `
          ${systemCode(shape, gpu, team, threads)}
          ${head(threads)}
            ${place(team, perGroup)}
            let h = unit;
            ${load(shape)}
            var sum_change = vec2<f32>(0.0);
            var sum_input = vec2<f32>(0.0);
            ${sums.map(([name]) => `var ${name} = vec2<f32>(0.0);`).join('\n')}
            ${has('dD') ? repeat(channels, (c) => `var sum_d${c} = 0.0;`) : ''}
            let chunks = (p.length + p.chunk - 1u) / p.chunk;
            for (var b = 0u; b < p.batch; b++) {
              let own = (b * p.features + h) * p.states + n;
              var adjoint = vec2<f32>(0.0);
              ${has('dFinalState') ? 'if (present) { adjoint = dFinalState[p.dFinalState_at + own]; }' : ''}
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
                    ${has('D') ? 'if (n == 0u) { du_own += slope * D[p.D_at + at]; }' : ''}
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
              ${has('dInitialState') ? 'if (present) { dInitialState[p.dInitialState_at + own] = adjoint; }' : ''}
            }
            if (present) {
              dChange[p.dChange_at + i] = sum_change;
              dInput[p.dInput_at + i] = sum_input;
              ${sums.map(([name, kind, at]) => `${kind}[p.${kind}_at + ${at}u * p.features * p.states + i] = ${name};`).join('\n')}
            }
            ${has('dD') ? `if (live && n == 0u) { ${repeat(channels, (c) => `dD[p.dD_at + ${c}u * p.features + h] = sum_d${c};`)} }` : ''}
          }`,
      },
    ],
  };
};
