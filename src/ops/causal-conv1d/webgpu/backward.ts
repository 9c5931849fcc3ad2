import { fold, type GpuKernel, type GpuLaunch, type GpuWork } from '../../../tensor/index.js';
import { columnSums } from '../../../wgsl/column-sums.js';
import { perElement } from '../../../wgsl/per-element.js';
import { lanesFor, repeat, vectorOf, type Lanes } from '../../../wgsl/vectors.js';
import { activationCode, inputCode, longestWindow, preactivation, workgroupSize } from './forward.js';

type Buffers =
  | ('x' | 'weight' | 'bias' | 'initialState' | 'sequenceStarts' | 'dy' | 'dfinalState')
  | ('dx' | 'dweight' | 'dbias' | 'dinitialState' | 'partials');
type Parameters =
  | ('batch' | 'length' | 'channels' | 'taps' | 'xPitch' | 'weightPitch' | 'statePitch' | 'startsPitch')
  | ('dyPitch' | 'dfinalPitch' | 'silu' | 'chunk' | 'spans');
type Launch = GpuLaunch<Buffers, Parameters>;

/** Invocations that keep a large GPU busy: below it they walk fewer positions each. */
const busy = 65536;
/** Positions that one part of a long filter's gradient is summed over. */
const partLength = 256;

export const causalConv1dBackwardGpu: GpuKernel<Buffers, Parameters> = (launch) =>
  launch.parameters.taps > longestWindow ? withAnyTaps(launch) : withWindow(launch);

/** `slope(pre)`, the activation's derivative, and `final_part(b, s, e)`, what the final state's cotangent gives position s. */
function gradientCode({ has }: Launch, lanes: 1 | 4): string {
  const type = vectorOf(lanes);
  const cotangents = Array.from({ length: lanes }, (_, lane) => `dfinalState[at + ${lane}]`).join(', ');
  return `
    fn slope(pre: ${type}) -> ${type} {
      if (p.silu == 0) { return ${type}(1.0); }
      let s = sigmoid(pre);
      return s * (1.0 + pre * (1.0 - s));
    }
    fn final_part(b: u32, s: i32, e: u32) -> ${type} {
      ${
        has('dfinalState')
          ? `let row = s - (i32(p.length) - i32(p.taps - 1));
             if (row < 0 || !same_document(b, s, i32(p.length) - 1)) { return ${type}(0.0); }
             let at = p.dfinalState_at + (b * (p.taps - 1) + u32(row)) * p.dfinalPitch + e;
             return ${type}(${cotangents});`
          : `return ${type}(0.0);`
      }
    }`;
}

const given = (has: Launch['has'], ...names: Buffers[]): Buffers[] => names.filter((name) => has(name));

/** The parts of dweight and dbias are [rows, taps + 1, channels]: the taps in order, then the bias. */
function addParts({ parameters: { channels, taps }, has }: Launch, rows: number): GpuWork['dispatches'] {
  const outputs = given(has, 'dweight', 'dbias');
  if (outputs.length === 0) return [];
  return [
    columnSums({
      variant: 'parts',
      parts: 'parts',
      rows,
      columns: (taps + 1) * channels,
      buffers: outputs,
      store: `
        let e = column % p.channels;
        let k = column / p.channels;
        if (k < p.taps) { ${has('dweight') ? 'dweight[p.dweight_at + e * p.taps + k] = total;' : ''} }
        else { ${has('dbias') ? 'dbias[p.dbias_at + e] = total;' : ''} }`,
    }),
  ];
}

/**
 * Short filters: an invocation walks a span of positions with the last inputs in registers, and the unfinished gradients of
 * the last positions: g[t] finishes that of t − K + 1. It goes on K − 1 positions past its end for its own last ones.
 */
function withWindow(launch: Launch): GpuWork {
  const { parameters, has, dtype } = launch;
  const { batch, length, channels, taps, xPitch, dyPitch } = parameters;
  const lanes = lanesFor([channels, xPitch, dyPitch], launch.aligned(4, 'x', 'dy', 'dx'));
  const stored = (name: Buffers) => vectorOf(lanes, dtype(name) ?? 'f32');
  const span = [64, 32, 16].find((positions) => (batch * Math.ceil(length / positions) * channels) / lanes >= busy) ?? 16;
  const runs = Math.ceil(length / span);
  const invocations = (batch * runs * channels) / lanes;
  const sums = has('dweight') || has('dbias');
  if (given(has, 'dx', 'dinitialState').length === 0 && !sums) return { dispatches: [] };
  return {
    scratch: sums ? { parts: { dtype: 'f32', size: batch * runs * (taps + 1) * channels } } : {},
    dispatches: [
      {
        variant: `taps${taps}`,
        buffers: [
          { name: 'x', as: stored('x') },
          'weight',
          ...given(has, 'bias', 'initialState', 'sequenceStarts'),
          ...(has('dy') ? [{ name: 'dy', as: stored('dy') }] : []),
          ...given(has, 'dfinalState'),
          ...(has('dx') ? [{ name: 'dx', as: stored('dx') }] : []),
          ...(has('dinitialState') && taps > 1 ? ['dinitialState'] : []),
          ...(sums ? ['parts'] : []),
        ],
        numbers: { runs, invocations, span },
        workgroups: fold(Math.ceil(invocations / workgroupSize)),
        code: () => windowCode(launch, lanes, sums),
      },
      ...addParts(launch, batch * runs),
    ],
  };
}

/** Statements for each tap from number `from` on. */
const eachTap = (taps: number, from: number, code: (j: number) => string): string => repeat(Math.max(0, taps - from), (j) => code(j + from));

function windowCode(launch: Launch, lanes: Lanes, sums: boolean): string {
  const { parameters, has } = launch;
  const { taps } = parameters;
  const type = vectorOf(lanes);
  const starts = has('sequenceStarts');
  const last = taps - 1;
  const each = (from: number, code: (j: number) => string) => eachTap(taps, from, code);
  const forget = `age = 0; ${each(1, (j) => `x${j} = ${type}(0.0);`)}`;
  const shift = (name: string, value: string) =>
    Array.from({ length: last }, (_, i) => last - i)
      .map((j) => `${name}${j} = ${j === 1 ? value : `${name}${j - 1}`};`)
      .join(' ');
  return `
          ${activationCode(lanes)}
          ${inputCode(launch, lanes)}
          ${gradientCode(launch, lanes)}
          @compute @workgroup_size(${workgroupSize})
          fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                  @builtin(local_invocation_index) thread: u32) {
            let i = flat_workgroup(id, count) * ${workgroupSize} + thread;
            if (i >= p.invocations) { return; }
            let vectors = p.channels / ${lanes};
            let e = i % vectors * ${lanes};
            let run = i / vectors;
            let b = run / p.runs;
            let first = i32(run % p.runs * p.span);
            let length = i32(p.length);
            let end = min(length, first + i32(p.span));
            let bias0 = bias_at(e);
            // Of tap j, counted back: weight, input, unfinished gradient, the weight's gradient.
            ${each(0, (j) => `let w${j} = tap(e, ${last - j}); var dw${j} = ${type}(0.0);`)}
            ${each(1, (j) => `var x${j} = ${type}(0.0); var dx${j} = ${type}(0.0);`)}
            var db = ${type}(0.0);
            // Positions since the document's start: taps beyond it see nothing.
            var age = ${taps};
            ${repeat(last, (n) => {
              const t = `first - ${last - n}`;
              return `${starts ? `if (starts_at(b, ${t})) { ${forget} } age++;` : ''} { let v = input_at(b, ${t}, e); ${shift('x', 'v')} }`;
            })}
            for (var t = first; t < end + ${last}; t++) {
              ${starts ? `if (t < length && starts_at(b, t)) { ${forget} }` : ''}
              let at = min(t, length - 1);
              let x0 = input_at(b, at, e);
              let pre = bias0${each(0, (j) => ` + w${j} * x${j}`)};
              var g = ${has('dy') ? `${type}(dy[p.dy_at + ((b * p.length + u32(at)) * p.dyPitch + e) / ${lanes}]) * slope(pre)` : `${type}(0.0)`};
              if (t >= length) { g = ${type}(0.0); }
              if (t < end) { db += g; ${each(0, (j) => `dw${j} += g * x${j};`)} }
              let dx0 = w0 * g;
              ${each(1, (j) => `${starts ? `if (${j} <= age) ` : ''}{ dx${j} += w${j} * g; }`)}
              ${storeInputGradient(launch, lanes)}
              ${shift('x', 'x0')}
              ${shift('dx', 'dx0')}
              ${starts ? `age = min(age + 1, ${taps});` : ''}
            }
            ${sums ? storeParts(taps, lanes) : ''}
          }`;
}

/** Stores the gradient of the position that the one at `t` finishes: of an input, or of one of the initial state. */
function storeInputGradient({ parameters: { taps }, has, dtype }: Launch, lanes: Lanes): string {
  const last = String(taps - 1);
  const gradient = `dx${last} + final_part(b, s, e)`;
  return `let s = t - ${last};
              if (s >= first) {
                ${has('dx') ? `dx[p.dx_at + ((b * p.length + u32(s)) * p.channels + e) / ${lanes}] = ${vectorOf(lanes, dtype('dx') ?? 'f32')}(${gradient});` : ''}
              }
              ${
                has('dinitialState') && taps > 1
                  ? `else if (s < 0) {
                       let value = ${gradient};
                       let to = p.dinitialState_at + (b * ${last} + u32(t)) * p.channels + e;
                       ${repeat(lanes, (lane) => `dinitialState[to + ${lane}] = value${lanes === 1 ? '' : `[${lane}]`};`)}
                     }`
                  : ''
              }`;
}

/** Stores what a span of positions adds to dweight and dbias. */
function storeParts(taps: number, lanes: Lanes): string {
  return `let to = p.parts_at + run * ${taps + 1} * p.channels + e;
                   ${repeat(lanes, (lane) => {
                     const element = lanes === 1 ? '' : `[${lane}]`;
                     return `${eachTap(taps, 0, (j) => `parts[to + ${taps - 1 - j} * p.channels + ${lane}] = dw${j}${element};`)}
                       parts[to + ${taps} * p.channels + ${lane}] = db${element};`;
                   })}`;
}

/** Filters of any length: first g, then sums over it. */
function withAnyTaps(launch: Launch): GpuWork {
  const { parameters, has, dtype } = launch;
  const { batch, length, channels, taps } = parameters;
  const inputs = ['x', 'weight', ...given(has, 'bias', 'initialState', 'sequenceStarts')];
  const functions = activationCode(1) + inputCode(launch, 1) + gradientCode(launch, 1);
  const parts = Math.ceil((batch * length) / partLength);
  const sums = has('dweight') || has('dbias');
  /** Σⱼ weight[K−1−j]·g[s + j] over s's document, from j = max(0, −s). */
  const sum = `
    var value = final_part(b, s, e);
    for (var j = max(0, -s); j < i32(p.taps) && s + j < i32(p.length); j++) {
      if (j > 0 && starts_at(b, s + j)) { break; }
      value += tap(e, p.taps - 1 - u32(j)) * g[p.g_at + (b * p.length + u32(s + j)) * p.channels + e];
    }`;
  return {
    scratch: {
      g: { dtype: 'f32', size: batch * length * channels },
      ...(sums ? { parts: { dtype: 'f32' as const, size: parts * (taps + 1) * channels } } : {}),
    },
    dispatches: [
      perElement({
        variant: 'g',
        count: batch * length * channels,
        buffers: [...inputs, ...given(has, 'dy'), 'g'],
        functions: functions.replace(/fn final_part[^]*$/, ''),
        body: `
          ${preactivation}
          g[p.g_at + i] = ${has('dy') ? 'f32(dy[p.dy_at + i / p.channels * p.dyPitch + e]) * slope(pre)' : '0.0'};`,
      }),
      ...given(has, 'dx', 'dinitialState').map((name) => {
        const positions = name === 'dx' ? length : taps - 1;
        return perElement({
          variant: name,
          count: batch * positions * channels,
          buffers: [...inputs, ...given(has, 'dfinalState'), { name: 'g', access: 'read' as const }, name],
          numbers: { positions },
          functions,
          body: `
            let e = i % p.channels;
            let b = i / p.channels / p.positions;
            let s = i32(i / p.channels % p.positions) - ${name === 'dx' ? '0' : 'i32(p.taps - 1)'};
            ${sum}
            ${name}[p.${name}_at + i] = ${dtype(name) ?? 'f32'}(value);`,
        });
      }),
      ...(sums
        ? [
            perElement({
              variant: 'parts',
              count: parts * (taps + 1) * channels,
              buffers: [...inputs, { name: 'g', access: 'read' as const }, 'parts'],
              functions: inputCode(launch, 1),
              body: `
                let e = i % p.channels;
                let k = i / p.channels % (p.taps + 1);
                let first = i / p.channels / (p.taps + 1) * ${partLength};
                var total = 0.0;
                for (var row = first; row < min(first + ${partLength}, p.batch * p.length); row++) {
                  let b = row / p.length;
                  let t = i32(row % p.length);
                  let seen = t - i32(p.taps - 1 - min(k, p.taps - 1));
                  if (!same_document(b, seen, t)) { continue; }
                  var value = g[p.g_at + row * p.channels + e];
                  if (k < p.taps) { value *= input_at(b, seen, e); }
                  total += value;
                }
                parts[p.parts_at + i] = total;`,
            }),
          ]
        : []),
      ...addParts(launch, parts),
    ],
  };
}
