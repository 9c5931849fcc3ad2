import { defineKernel, inout, input, optionalInput, optionalOutput, output } from '../../tensor/index.js';
import { added } from '../elementwise/added.js';
import { causalConv1dBackwardGpu, causalConv1dGpu, causalConv1dStepGpu } from './webgpu/index.js';
import { forEachFinal, forEachPosition, locate, sameDocument, sigmoid } from './reference.js';

/**
 * pre[b, t, e] = bias[e] + Σⱼ weight[e, taps−1−j]·input(b, t−j, e), y = pre or silu(pre); finalState [batch, taps−1, channels]
 * is the last inputs. input(b, t, e) is x, below t = 0 the initial state (0 without one), and 0 where a document starts after
 * it and up to where it is seen.
 */
export const causalConv1d = defineKernel('causal_conv1d', {
  buffers: {
    x: input.float,
    weight: input.f32,
    bias: optionalInput.f32,
    initialState: optionalInput.f32,
    sequenceStarts: optionalInput.i32,
    y: output.float,
    finalState: output.f32,
  },
  parameters: {
    batch: 'int',
    length: 'int',
    channels: 'int',
    taps: 'int',
    xPitch: 'int',
    weightPitch: 'int',
    statePitch: 'int',
    startsPitch: 'int',
    silu: 'flag',
  },
  operations: (p) => p.batch * p.length * p.channels * (2 * p.taps + (p.silu ? 4 : 0)),
  divisions: ({ length, channels, taps, xPitch, statePitch, startsPitch }) => [
    {
      along: 'batch',
      strides: {
        ...{ x: length * xPitch, initialState: (taps - 1) * statePitch, sequenceStarts: startsPitch },
        ...{ y: length * channels, finalState: (taps - 1) * channels },
      },
    },
  ],
  webgpu: causalConv1dGpu,
  reference({ x, weight, bias, initialState, sequenceStarts, y, finalState }, p) {
    const seen = (b: number, from: number, to: number, e: number): number => {
      if (!sameDocument(p, sequenceStarts, b, from, to)) return 0;
      const { inState, at } = locate(p, b, from, e);
      return inState ? (initialState ? (initialState[at] ?? NaN) : 0) : (x[at] ?? NaN);
    };
    forEachPosition(p, (b, t, e) => {
      let pre = bias?.[e] ?? 0;
      for (let j = 0; j < p.taps; j++) pre += (weight[e * p.weightPitch + p.taps - 1 - j] ?? NaN) * seen(b, t - j, t, e);
      y[(b * p.length + t) * p.channels + e] = p.silu ? pre * sigmoid(pre) : pre;
    });
    forEachFinal(p, (b, t, e, at) => (finalState[at] = seen(b, t, p.length - 1, e)));
  },
});

/**
 * The gradient of `causalConv1d`: with g = dy·act′(pre), dinput(b, t) = Σⱼ weight[taps−1−j]·g(b, t+j) + the cotangent of its
 * place in the final state, dweight[taps−1−j] = Σ g(b, t)·input(b, t−j), dbias = Σ g. dy or dfinalState may be missing (0).
 *
 * `partials` [spans, taps+1, channels] is working space, needed for dweight and dbias: sequences are cut into chunks of
 * `chunk` positions, the chunks into `spans` runs, and a run sums into its own slice.
 */
export const causalConv1dBackward = defineKernel('causal_conv1d_backward', {
  buffers: {
    x: input.float,
    weight: input.f32,
    bias: optionalInput.f32,
    initialState: optionalInput.f32,
    sequenceStarts: optionalInput.i32,
    dy: optionalInput.float,
    dfinalState: optionalInput.f32,
    dx: optionalOutput.float,
    dweight: optionalOutput.f32,
    dbias: optionalOutput.f32,
    dinitialState: optionalOutput.f32,
    partials: optionalOutput.f32,
  },
  parameters: {
    batch: 'int',
    length: 'int',
    channels: 'int',
    taps: 'int',
    xPitch: 'int',
    weightPitch: 'int',
    statePitch: 'int',
    startsPitch: 'int',
    dyPitch: 'int',
    dfinalPitch: 'int',
    silu: 'flag',
    chunk: 'int',
    spans: 'int',
  },
  operations: (p) => p.batch * p.length * p.channels * (6 * p.taps + (p.silu ? 9 : 0)),
  divisions: ({ length, channels, taps, xPitch, statePitch, startsPitch, dyPitch, dfinalPitch }) => [
    {
      along: 'batch',
      strides: {
        ...{ x: length * xPitch, initialState: (taps - 1) * statePitch, sequenceStarts: startsPitch },
        ...{ dy: length * dyPitch, dfinalState: (taps - 1) * dfinalPitch },
        ...{ dx: length * channels, dinitialState: (taps - 1) * channels },
      },
      ...added('dweight', 'dbias'),
    },
  ],
  webgpu: causalConv1dBackwardGpu,
  reference(buffers, p) {
    const { x, weight, bias, initialState, sequenceStarts, dy, dfinalState, dx, dweight, dbias, dinitialState } = buffers;
    for (const gradient of [dx, dweight, dbias, dinitialState]) gradient?.fill(0);
    const inputAt = (b: number, t: number, e: number): number => {
      const { inState, at } = locate(p, b, t, e);
      return inState ? (initialState ? (initialState[at] ?? NaN) : 0) : (x[at] ?? NaN);
    };
    const add = (to: Float64Array | null, at: number, value: number) => {
      if (to) to[at] = (to[at] ?? NaN) + value;
    };
    const addToInput = (b: number, t: number, e: number, value: number) => {
      const { inState, at } = locate({ ...p, xPitch: p.channels, statePitch: p.channels }, b, t, e);
      add(inState ? dinitialState : dx, at, value);
    };
    forEachPosition(p, (b, t, e) => {
      const taps = Array.from({ length: p.taps }, (_, j) => ({ at: p.taps - 1 - j, from: t - j })).filter(({ from }) =>
        sameDocument(p, sequenceStarts, b, from, t),
      );
      let pre = bias?.[e] ?? 0;
      for (const { at, from } of taps) pre += (weight[e * p.weightPitch + at] ?? NaN) * inputAt(b, from, e);
      const s = sigmoid(pre);
      const slope = p.silu ? s * (1 + pre * (1 - s)) : 1;
      const g = dy ? (dy[(b * p.length + t) * p.dyPitch + e] ?? NaN) * slope : 0;
      for (const { at, from } of taps) {
        addToInput(b, from, e, (weight[e * p.weightPitch + at] ?? NaN) * g);
        add(dweight, e * p.taps + at, g * inputAt(b, from, e));
      }
      add(dbias, e, g);
    });
    if (!dfinalState) return;
    forEachFinal({ ...p, channels: p.dfinalPitch }, (b, t, e, at) => {
      if (e < p.channels && sameDocument(p, sequenceStarts, b, t, p.length - 1)) addToInput(b, t, e, dfinalState[at] ?? NaN);
    });
  },
});

/** One position: pre and y as in `causalConv1d` with `state` before x; then the oldest row of `state` makes room for x. */
export const causalConv1dStep = defineKernel('causal_conv1d_step', {
  buffers: { state: inout.f32, x: input.float, weight: input.f32, bias: optionalInput.f32, y: output.float },
  parameters: {
    batch: 'int',
    channels: 'int',
    taps: 'int',
    xPitch: 'int',
    weightPitch: 'int',
    statePitch: 'int',
    silu: 'flag',
  },
  operations: (p) => p.batch * p.channels * (2 * p.taps + (p.silu ? 4 : 0)),
  divisions: ({ channels, taps, xPitch, statePitch }) => [
    { along: 'batch', strides: { state: (taps - 1) * statePitch, x: xPitch, y: channels } },
  ],
  webgpu: causalConv1dStepGpu,
  reference({ state, x, weight, bias, y }, p) {
    for (let b = 0; b < p.batch; b++) {
      for (let e = 0; e < p.channels; e++) {
        const place = (i: number) => (b * (p.taps - 1) + i) * p.statePitch + e;
        const inputs = Array.from({ length: p.taps - 1 }, (_, i) => state[place(i)] ?? NaN).concat(x[b * p.xPitch + e] ?? NaN);
        let pre = bias?.[e] ?? 0;
        inputs.forEach((value, i) => (pre += (weight[e * p.weightPitch + i] ?? NaN) * value));
        y[b * p.channels + e] = p.silu ? pre * sigmoid(pre) : pre;
        inputs.slice(1).forEach((value, i) => (state[place(i)] = value));
      }
    }
  },
});
