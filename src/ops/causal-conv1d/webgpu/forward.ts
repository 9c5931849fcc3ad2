import { fold, type GpuKernel, type GpuLaunch, type GpuWork } from '../../../tensor/index.js';
import { perElement } from '../../../wgsl/per-element.js';
import { gather, lanesFor, repeat, vectorOf, type Lanes } from '../../../wgsl/vectors.js';

/** Filters up to this length are walked with their window in registers; longer ones take a loop over the taps. */
export const longestWindow = 8;
/** Positions an invocation walks, so that a row is read about once. */
const run = 16;
export const workgroupSize = 128;

type InputBuffers = 'x' | 'weight' | 'bias' | 'initialState' | 'sequenceStarts';
type ForwardBuffers = InputBuffers | 'y' | 'finalState';
type Extents = 'batch' | 'length' | 'channels' | 'taps' | 'xPitch' | 'weightPitch' | 'statePitch' | 'startsPitch' | 'silu';

/** WGSL's sigmoid of the vector type, and the activation. */
export const activationCode = (lanes: Lanes): string => {
  const type = vectorOf(lanes);
  return `
    fn sigmoid(v: ${type}) -> ${type} { return 1.0 / (1.0 + exp(min(-v, ${type}(88.0)))); }
    fn activate(v: ${type}) -> ${type} { if (p.silu == 1) { return v * sigmoid(v); } return v; }`;
};

/**
 * Functions over the inputs: `starts_at(b, t)`; `same_document(b, start, end)`, whether no document starts after `start` and up to
 * `end`; `input_at(b, t, e)`, the inputs of `lanes` channels, below position 0 those of the initial state; `tap(e, k)`, weights.
 */
export function inputCode({ has, dtype }: Pick<GpuLaunch<InputBuffers>, 'has' | 'dtype'>, lanes: Lanes): string {
  const type = vectorOf(lanes);
  const state = has('initialState')
    ? `let at = p.initialState_at + (b * (p.taps - 1) + u32(t + i32(p.taps) - 1)) * p.statePitch + e;
       return ${gather(lanes, (lane) => `initialState[at + ${lane}]`)};`
    : `return ${type}(0.0);`;
  const scalar = dtype('x') ?? 'f32';
  return `
    fn starts_at(b: u32, t: i32) -> bool {
      ${has('sequenceStarts') ? 'return t >= 0 && sequenceStarts[p.sequenceStarts_at + b * p.startsPitch + u32(t)] != 0;' : 'return false;'}
    }
    fn same_document(b: u32, start: i32, end: i32) -> bool {
      ${has('sequenceStarts') ? 'for (var t = max(0, start + 1); t <= end; t++) { if (starts_at(b, t)) { return false; } }' : ''}
      return true;
    }
    fn input_at(b: u32, t: i32, e: u32) -> ${type} {
      if (t < 0) { ${state} }
      return ${type}(${vectorOf(lanes, scalar)}(x[p.x_at + ((b * p.length + u32(t)) * p.xPitch + e) / ${lanes}]));
    }
    fn tap(e: u32, k: u32) -> ${type} {
      return ${gather(lanes, (lane) => `weight[p.weight_at + (e + ${lane}) * p.weightPitch + k]`)};
    }
    fn bias_at(e: u32) -> ${type} {
      return ${has('bias') ? gather(lanes, (lane) => `bias[p.bias_at + e + ${lane}]`) : `${type}(0.0)`};
    }`;
}

const givenOf = (has: (name: ForwardBuffers) => boolean): ForwardBuffers[] =>
  (['bias', 'initialState', 'sequenceStarts'] as const).filter((name) => has(name));

/** What the next positions may still see: the last inputs, of the last document alone. `i` counts the final state's elements. */
const storeFinalState = (x: string) => `
  let e = i % p.channels;
  let row = i / p.channels;
  let b = row / (p.taps - 1);
  let t = i32(p.length) - i32(p.taps - 1) + i32(row % (p.taps - 1));
  var value = 0.0;
  if (same_document(b, t, i32(p.length) - 1)) { value = ${x}; }
  finalState[p.finalState_at + i] = value;`;

/** Element i of [b, t, e] and the convolution there, before its activation, of a filter of any length; over `inputCode`. */
export const preactivation = `
  let e = i % p.channels;
  let b = i / p.channels / p.length;
  let t = i32(i / p.channels % p.length);
  var pre = bias_at(e);
  for (var j = 0u; j < p.taps; j++) {
    pre += tap(e, p.taps - 1 - j) * input_at(b, t - i32(j), e);
    if (starts_at(b, t - i32(j))) { break; }
  }`;

type Launch = GpuLaunch<ForwardBuffers, Extents>;

export const causalConv1dGpu: GpuKernel<ForwardBuffers, Extents> = (launch) =>
  launch.parameters.taps > longestWindow ? withAnyTaps(launch) : withWindow(launch);

/** Filters of any length: an invocation for each element. */
function withAnyTaps(launch: Launch): GpuWork {
  const { parameters, has, dtype } = launch;
  const { batch, length, channels, taps } = parameters;
  return {
    dispatches: [
      perElement({
        variant: 'any',
        count: batch * length * channels,
        buffers: ['x', 'weight', ...givenOf(has), 'y'],
        functions: activationCode(1) + inputCode(launch, 1),
        body: `
            ${preactivation}
            y[p.y_at + i] = ${dtype('y') ?? 'f32'}(activate(pre));`,
      }),
      perElement({
        variant: 'final',
        count: batch * (taps - 1) * channels,
        buffers: ['x', 'weight', ...givenOf(has), 'finalState'],
        functions: inputCode(launch, 1),
        body: storeFinalState('input_at(b, t, e)'),
      }),
    ],
  };
}

/** Short filters: an invocation walks a run of positions with the last inputs in registers; others store the final state. */
function withWindow(launch: Launch): GpuWork {
  const { parameters, has, dtype, aligned } = launch;
  const { batch, length, channels, taps, xPitch } = parameters;
  const finals = batch * (taps - 1) * channels;
  const lanes = lanesFor([channels, xPitch], aligned(4, 'x', 'y'));
  const stored = vectorOf(lanes, dtype('x') ?? 'f32');
  const runs = Math.ceil(length / run);
  const invocations = (batch * runs * channels) / lanes;
  return {
    dispatches: [
      {
        variant: `taps${taps}`,
        buffers: [{ name: 'x', as: stored }, 'weight', ...givenOf(has), { name: 'y', as: stored }, ...(finals > 0 ? ['finalState'] : [])],
        numbers: { runs, invocations, elements: invocations + finals },
        workgroups: fold(Math.ceil((invocations + finals) / workgroupSize)),
        code: () => windowCode(launch, lanes, finals > 0),
      },
    ],
  };
}

/** Positions whose inputs are asked for before the first is used. */
const together = 4;

function windowCode(launch: Launch, lanes: Lanes, finals: boolean): string {
  const { parameters, has, dtype } = launch;
  const { taps } = parameters;
  const [type, stored] = [vectorOf(lanes), vectorOf(lanes, dtype('x') ?? 'f32')];
  const window = Array.from({ length: taps - 1 }, (_, j) => `x${j + 1}`);
  const shift = (value: string) => [...window.slice(1).map((name, j) => [name, window[j] ?? ''] as const).reverse(), [window[0], value] as const]
    .filter(([name]) => name !== undefined)
    .map(([name, from]) => `${name ?? ''} = ${from};`)
    .join(' ');
  const forget = (t: string) =>
    has('sequenceStarts') ? `if (starts_at(b, ${t})) { ${window.map((name) => `${name} = ${type}(0.0);`).join(' ')} }` : '';
  return `
          ${activationCode(lanes)}
          ${inputCode(launch, lanes)}
          ${finals ? `fn final_state(i: u32) { ${storeFinalState(lanes === 1 ? 'input_at(b, t, e)' : 'input_at(b, t, e & ~3u)[e & 3]')} }` : ''}
          @compute @workgroup_size(${workgroupSize})
          fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                  @builtin(local_invocation_index) thread: u32) {
            let i = flat_workgroup(id, count) * ${workgroupSize} + thread;
            if (i >= p.elements) { return; }
            if (i >= p.invocations) {
              ${finals ? 'final_state(i - p.invocations);' : ''}
              return;
            }
            let vectors = p.channels / ${lanes};
            let e = i % vectors * ${lanes};
            let b = i / vectors / p.runs;
            let first = i32(i / vectors % p.runs * ${run});
            let last = i32(p.length) - 1;
            let bias0 = bias_at(e);
            ${repeat(taps, (j) => `let w${j} = tap(e, ${taps - 1 - j});`)}
            ${window.map((name) => `var ${name} = ${type}(0.0);`).join(' ')}
            ${repeat(taps - 1, (n) => {
              const t = `first - ${taps - 1 - n}`;
              return `${forget(t)} { let v = input_at(b, ${t}, e); ${shift('v')} }`;
            })}
            for (var n = 0; n < ${run}; n += ${together}) {
              let t = first + n;
              if (t > last) { break; }
              ${repeat(together, (n) => `let v${n} = input_at(b, min(t + ${n}, last), e);`)}
              ${repeat(together, (n) => {
                const v = `v${n}`;
                return `
                  if (t + ${n} <= last) {
                    ${forget(`t + ${n}`)}
                    let pre = bias0 + w0 * ${v}${window.map((name, j) => ` + w${j + 1} * ${name}`).join('')};
                    y[p.y_at + ((b * p.length + u32(t + ${n})) * p.channels + e) / ${lanes}] = ${stored}(activate(pre));
                  }
                  ${shift(v)}`;
              })}
            }
          }`;
}

export const causalConv1dStepGpu: GpuKernel<
  'state' | 'x' | 'weight' | 'bias' | 'y',
  'batch' | 'channels' | 'taps' | 'xPitch' | 'weightPitch' | 'statePitch' | 'silu'
> = ({ parameters, has, dtype }) => ({
  dispatches: [
    perElement({
      variant: 'step',
      count: parameters.batch * parameters.channels,
      buffers: [...(parameters.taps > 1 ? ['state'] : []), 'x', 'weight', ...(has('bias') ? ['bias'] : []), 'y'],
      functions: activationCode(1),
      body: `
        let e = i % p.channels;
        let b = i / p.channels;
        let now = f32(x[p.x_at + b * p.xPitch + e]);
        let w = p.weight_at + e * p.weightPitch;
        var pre = ${has('bias') ? 'bias[p.bias_at + e]' : '0.0'} + weight[w + p.taps - 1] * now;
        ${
          parameters.taps > 1
            ? `let oldest = p.state_at + b * (p.taps - 1) * p.statePitch + e;
               for (var j = 0u; j + 1 < p.taps; j++) {
                 let past = state[oldest + j * p.statePitch];
                 pre += weight[w + j] * past;
                 if (j > 0) { state[oldest + (j - 1) * p.statePitch] = past; }
               }
               state[oldest + (p.taps - 2) * p.statePitch] = now;`
            : ''
        }
        y[p.y_at + i] = ${dtype('y') ?? 'f32'}(activate(pre));`,
    }),
  ],
});
