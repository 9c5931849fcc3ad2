import { checksummedChunks, parseSafetensors, toFloat32, verifySafetensors, type SafetensorsSource } from '../../io/index.js';
import { fill } from '../../backend/memory/kernels.js';
import { disposeSymbol } from '../../util/disposal.js';
import { CheckpointError, describeProblem, ArgumentError, DisposedError } from '../../util/errors.js';
import { empty, formatShape, keep, launch, sameShape, scope, sizeOf, withoutScope, type Backend, type Tensor } from '../../tensor/index.js';
import { copyInto } from '../../ops/view/view.js';
import { float32Source } from '../tensor-source.js';
import type { MambaConfig } from './config.js';
import type { MixerState } from './mixer.js';

/** What a state is a state of. */
export interface StateOwner {
  readonly backend: Backend;
  readonly config: MambaConfig;
  fingerprint(): Promise<string>;
}

/** Something that goes on over several passes, as a generation does, and has a state to itself meanwhile. */
export interface StateUse {
  /** Gives the state back. */
  end(): void;
}

/**
 * All a Mamba model remembers of a sequence, in memory that does not grow with it: for each layer the last inputs of the
 * convolution [B,K−1,E] and the scan's state [B,E,N], in float32, those of all layers together. Models update it in place; `copy` forks it,
 * `serialize` and `State.restore` carry it to another process. It is of use to the model alone that made or
 * restored it.
 */
export class State implements Disposable {
  /** One for each block: parts of the memory of all. */
  readonly layers: readonly MixerState[];
  readonly #conv: Tensor<'f32'>;
  readonly #ssm: Tensor<'f32'>;
  readonly #owner: StateOwner;
  #taken: { readonly use: StateUse; readonly user: string } | null = null;

  /** @param conv [layers,B,K−1,E] @param ssm [layers,B,E,N] @param position tokens seen so far */
  private constructor(
    conv: Tensor<'f32'>,
    ssm: Tensor<'f32'>,
    public position: number,
    owner: StateOwner,
  ) {
    const layer = (all: Tensor<'f32'>, i: number) => all.aliased(all.shape.slice(1), i * sizeOf(all.shape.slice(1)));
    this.#conv = conv;
    this.#ssm = ssm;
    this.#owner = owner;
    this.layers = Array.from({ length: ssm.shape[0] ?? 0 }, (_, i) => ({ conv: layer(conv, i), ssm: layer(ssm, i) }));
  }

  /** A state whose values are undefined. It belongs to the current scope. */
  static #empty(owner: StateOwner, batch: number): State {
    const { backend, config } = owner;
    const { layers, dConv, dInner, dState } = config;
    return new State(empty(backend, [layers, batch, dConv - 1, dInner]), empty(backend, [layers, batch, dInner, dState]), 0, owner);
  }

  /** A state that is in no scope; where making it fails, its memory is freed. */
  static #lasting(make: () => State): State {
    return withoutScope(() =>
      scope(() => {
        const state = make();
        for (const tensor of state.#tensors()) keep(tensor);
        return state;
      }),
    );
  }

  /** The state of `owner` before the first token: zeros. */
  static zero(owner: StateOwner, batch: number): State {
    return State.#lasting(() => {
      const state = State.#empty(owner, batch);
      for (const values of [state.#conv, state.#ssm]) {
        if (values.size > 0) launch(fill, { values }, { value: 0, count: values.size });
      }
      return state;
    });
  }

  /** Number of sequences. */
  get batch(): number {
    return this.#ssm.shape[1] ?? 0;
  }

  get disposed(): boolean {
    return this.#ssm.disposed;
  }

  /** A state of the same position whose values are undefined, for a pass to write. It belongs to the current scope. */
  like(): State {
    this.#expectLive('State.like');
    const { backend } = this.#ssm;
    return new State(empty(backend, this.#conv.shape), empty(backend, this.#ssm.shape), this.position, this.#owner);
  }

  /** An independent state of the same values. */
  copy(): State {
    this.#expectLive('State.copy');
    return State.#lasting(() => {
      const copied = this.like();
      copied.assign(this);
      return copied;
    });
  }

  /**
   * Takes over values and position; this state's memory stays where it is, so captured steps stay valid.
   * @throws ArgumentError when `other` is another model's, or for another number of sequences
   */
  assign(other: State): void {
    const operation = 'State.assign';
    this.#expectLive(operation);
    other.expectOf(operation, this.#owner, this.batch);
    if (this.#conv.size > 0) copyInto(other.#conv, this.#conv);
    copyInto(other.#ssm, this.#ssm);
    this.position = other.position;
  }

  /** The state as a safetensors file in memory, with the fingerprint of the model's weights (`MambaLM.fingerprint`) and checksums. */
  async serialize(): Promise<Uint8Array> {
    this.#expectLive('State.serialize');
    // All reads begin at once: a step that is taken meanwhile comes after them.
    const position = String(this.position);
    const [fingerprint, ...sources] = await Promise.all([
      this.#owner.fingerprint(),
      ...[...this.#named()].map(([key, value]): Promise<SafetensorsSource> => float32Source(key, value)),
    ]);
    const chunks = [...(await checksummedChunks(sources, { kind: 'elapid-mamba-state', position, fingerprint }))];
    const bytes = new Uint8Array(chunks.reduce((sum, { length }) => sum + length, 0));
    let at = 0;
    for (const chunk of chunks) {
      bytes.set(chunk, at);
      at += chunk.length;
    }
    return bytes;
  }

  /**
   * What `serialize` gave, as a state of `model`. A state from before states had a fingerprint is taken at its shapes: it was good then.
   * @throws CheckpointError when the bytes are damaged, or the state is of another kind of model, of other sizes or of other weights
   */
  static async restore(model: StateOwner, bytes: Uint8Array): Promise<State> {
    const name = '(serialised state)';
    const { tensors, metadata } = parseSafetensors(bytes, name);
    await verifySafetensors(bytes, name);
    const position = Number(metadata['position']);
    if (metadata['kind'] !== 'elapid-mamba-state' || !Number.isSafeInteger(position) || position < 0) {
      throw new CheckpointError('not the state of a Mamba model', { file: name, key: '__metadata__' });
    }
    const { layers } = model.config;
    const batch = tensors.get('0.ssm')?.shape[0] ?? 0;
    const values = (key: string, shape: readonly number[]): ArrayLike<number> => {
      const stored = tensors.get(key);
      if (stored?.dtype !== 'F32' || !sameShape(stored.shape, shape)) {
        const got = stored === undefined ? 'missing' : `${stored.dtype} ${formatShape(stored.shape)}`;
        throw new CheckpointError(`is ${got}; expected F32 ${formatShape(shape)} for this model`, { file: name, key });
      }
      return toFloat32(stored.bytes, 'F32');
    };
    if (tensors.size !== 2 * layers) {
      throw new CheckpointError(`has ${String(tensors.size)} tensors; expected 2 for each of ${String(layers)} layers`, { file: name });
    }
    const { dConv, dInner, dState } = model.config;
    const stored = Array.from({ length: layers }, (_, i) => [
      [`${String(i)}.conv`, values(`${String(i)}.conv`, [batch, dConv - 1, dInner])] as const,
      [`${String(i)}.ssm`, values(`${String(i)}.ssm`, [batch, dInner, dState])] as const,
    ]).flat();
    const { fingerprint } = metadata;
    // Last, since the wrong shape says more.
    if (fingerprint !== undefined && fingerprint !== (await model.fingerprint())) {
      throw new CheckpointError(
        'the state was made with other weights of the same shapes; with these it would go on wrongly. Hint: restore it to the model it is of; ' +
          'a model that was trained since, or packed in another format, is another one.',
        { file: name, key: '__metadata__.fingerprint' },
      );
    }
    return State.#lasting(() => {
      const state = State.#empty(model, batch);
      state.position = position;
      const parts = new Map(state.#named());
      for (const [key, numbers] of stored) parts.get(key)?.write(numbers);
      return state;
    });
  }

  /** Bytes of one sequence's state. */
  static sizeBytes({ layers, dConv, dInner, dState }: MambaConfig): number {
    return layers * dInner * (dConv - 1 + dState) * 4;
  }

  /**
   * Throws unless this is a state of `model` for `batch` sequences.
   * @throws DisposedError when it was disposed
   * @throws ArgumentError when it is another model's or another backend's, or for another number of sequences
   */
  expectOf(operation: string, model: StateOwner, batch: number): void {
    this.#expectLive(operation);
    if (this.#owner !== model) {
      const [expected, got] = [sizes(model.config), sizes(this.#owner.config)];
      if (got !== expected) throw wrongState(operation, `a state of ${expected}, this model’s`, `a state of ${got}`);
      const { backend } = this.#owner;
      if (backend !== model.backend) {
        throw wrongState(operation, `one on the model’s backend, ${model.backend.description}`, `on another: ${backend.description}`);
      }
      throw wrongState(operation, 'one that this model’s newState() made', 'another model’s of the same sizes');
    }
    if (this.batch !== batch) throw wrongState(operation, `${String(batch)} sequences`, String(this.batch));
  }

  /**
   * Takes the state for something that goes on over several passes. What reads it, as `copy` and `serialize`, may go on.
   * @param user for others' errors: 'a generation'
   * @throws ArgumentError when something else has taken it
   */
  take(operation: string, user: string): StateUse {
    this.expectFree(operation, null);
    const use: StateUse = {
      end: () => {
        if (this.#taken?.use === use) this.#taken = null;
      },
    };
    this.#taken = { use, user };
    return use;
  }

  /**
   * Throws when something other than `use` has taken the state.
   * @throws ArgumentError
   */
  expectFree(operation: string, use: StateUse | null): void {
    if (this.#taken === null || this.#taken.use === use) return;
    const hint = 'copy() forks a state; a generation gives its state back when its loop ends, or by return()';
    throw wrongState(operation, 'a state that nothing else is changing', `in use by ${this.#taken.user}`, hint);
  }

  dispose(): void {
    for (const tensor of this.#tensors()) tensor.dispose();
  }

  #expectLive(operation: string): void {
    if (this.disposed) throw new DisposedError(`${operation}: the state was disposed`);
  }

  #tensors(): Tensor[] {
    return [...this.layers.flatMap(({ conv, ssm }) => [conv, ssm]), this.#conv, this.#ssm];
  }

  [disposeSymbol](): void {
    this.dispose();
  }

  *#named(): Generator<[string, Tensor]> {
    for (const [i, { conv, ssm }] of this.layers.entries()) {
      yield [`${String(i)}.conv`, conv];
      yield [`${String(i)}.ssm`, ssm];
    }
  }
}

const sizes = ({ layers, dConv, dInner, dState }: MambaConfig): string =>
  `${String(layers)} layer${layers === 1 ? '' : 's'} with convolution ${formatShape([dConv - 1, dInner])} and scan ${formatShape([dInner, dState])}`;

function wrongState(operation: string, expected: string, got: string, hint?: string): ArgumentError {
  return new ArgumentError(describeProblem({ operation, argument: 'state', expected, got, ...(hint === undefined ? {} : { hint }) }));
}
