import type { Tensor } from './tensor.js';

/** Where gradients of one tensor are added up over several backward passes. */
export interface GradientSum {
  readonly total: Tensor;
  /** Nothing was added yet and the memory holds no value: the first gradient is written, not added. */
  empty: boolean;
}

/** A differentiable operation that has just been launched, as a tape keeps it. */
export interface RecordedOperation<Saved extends Record<string, Tensor | null>> {
  readonly operation: string;
  readonly inputs: readonly (Tensor | null | undefined)[];
  readonly outputs: readonly Tensor[];
  /** Tensors the gradient rule reads; the tape holds them until then. */
  readonly saved: Saved;
  /**
   * The gradient rule: from the cotangents of the outputs (null for an output that nothing used) to those of the inputs,
   * in order. `needed[i]` tells whether input i wants one; the rule may return null where it does not. `sums[i]`, where
   * there is one, is where the gradient of input i ends up: a rule may write or add it there itself, clear `empty`, and
   * return null, which saves passes over memory. It runs inside a scope and launches kernels that are not recorded themselves.
   */
  readonly backward: (context: {
    cotangents: readonly (Tensor | null)[];
    saved: Saved;
    needed: readonly boolean[];
    sums: readonly (GradientSum | null)[];
  }) => readonly (Tensor | null)[];
}

/** What records operations for the backward pass: the tape of `autograd`. */
export interface Recorder {
  record<Saved extends Record<string, Tensor | null>>(operation: RecordedOperation<Saved>): void;
  /** A recorder that tells `inner` of operations, and does besides what this one does to those that it is told of. Default: `inner`. */
  around?(inner: Recorder): Recorder;
}

let current: Recorder | null = null;
const modules: string[] = [];

/** Runs `body` as the part `name` of a model: operations that are recorded meanwhile can be told where they belong. */
export function inModule<T>(name: string, body: () => T): T {
  if (current === null) return body();
  modules.push(name);
  try {
    return body();
  } finally {
    modules.pop();
  }
}

/** The part of a model that runs now, as `layers.3.mixer`; empty outside of all. Known only while a recorder listens. */
export function modulePath(): string {
  return modules.join('.');
}

/** Tells the recorder, if one is listening, of a differentiable operation. */
export function record<Saved extends Record<string, Tensor | null>>(operation: RecordedOperation<Saved>): void {
  current?.record(operation);
}

/** Whether a recorder is listening: operations may skip what only the gradient needs where none is. */
export function isRecording(): boolean {
  return current !== null;
}

/** Runs `body` with `recorder` listening (or none, for null). */
export function withRecorder<T>(recorder: Recorder | null, body: () => T): T {
  const outer = current;
  current = recorder;
  try {
    return body();
  } finally {
    current = outer;
  }
}

/**
 * Gives a function that runs a body with a recorder of its own, however much later: as a part of the recorder that listens now, and of
 * the part of the model that runs now.
 */
export function recordingWithin(): <T>(inner: Recorder, body: () => T) => T {
  const outer = current;
  const path = [...modules];
  return (inner, body) => {
    const before = modules.splice(0, modules.length, ...path);
    try {
      return withRecorder(outer?.around?.(inner) ?? inner, body);
    } finally {
      modules.splice(0, modules.length, ...before);
    }
  };
}

/** Runs `body` with a recorder that `wrap` makes around the one that listens, or none where none does. */
export function withWrappedRecorder<T>(wrap: (outer: Recorder) => Recorder, body: () => T): T {
  return withRecorder(current === null ? null : wrap(current), body);
}
