import { checksummedChunks, parseSafetensors, toFloat32, verifySafetensors, type SafetensorsSource } from '../../io/index.js';
import { fill } from '../../backend/memory/kernels.js';
import { CheckpointError, describeProblem, ArgumentError } from '../../util/errors.js';
import { empty, formatShape, launch, sameShape, sizeOf, withoutScope, type Backend, type Tensor } from '../../tensor/index.js';
import { copyInto } from '../../ops/index.js';
import { float32Source } from '../tensor-source.js';
import type { MambaConfig } from './config.js';
import type { MixerState } from './mixer.js';

/** What a state is a state of. */
export interface StateOwner {
  readonly backend: Backend;
  readonly config: MambaConfig;
  fingerprint(): Promise<string>;
}

/**
 * All a Mamba model remembers of a sequence, in memory that does not grow with it: for each layer the last inputs of the
 * convolution [B,K−1,E] and the scan's state [B,E,N], in float32, those of all layers together. Models update it in place; `copy` forks it,
 * `serialize` and `State.restore` carry it to another process.
 */
export class State {
  /** One for each block: parts of the memory of all. */
  readonly layers: readonly MixerState[];
  readonly #conv: Tensor;
  readonly #ssm: Tensor;
  readonly #owner: StateOwner;

  /** @param conv [layers,B,K−1,E] @param ssm [layers,B,E,N] @param position tokens seen so far */
  private constructor(
    conv: Tensor,
    ssm: Tensor,
    public position: number,
    owner: StateOwner,
  ) {
    const layer = (all: Tensor, i: number) => all.aliased(all.shape.slice(1), i * sizeOf(all.shape.slice(1)));
    this.#conv = conv;
    this.#ssm = ssm;
    this.#owner = owner;
    this.layers = Array.from({ length: ssm.shape[0] ?? 0 }, (_, i) => ({ conv: layer(conv, i), ssm: layer(ssm, i) }));
  }

  /** A state whose values are undefined. */
  static #empty(owner: StateOwner, batch: number): State {
    const { layers, dConv, dInner, dState } = owner.config;
    const { backend } = owner;
    return withoutScope(
      () => new State(empty(backend, [layers, batch, dConv - 1, dInner]), empty(backend, [layers, batch, dInner, dState]), 0, owner),
    );
  }

  /** The state of `owner` before the first token: zeros. */
  static zero(owner: StateOwner, batch: number): State {
    const state = State.#empty(owner, batch);
    for (const values of [state.#conv, state.#ssm]) {
      if (values.size > 0) launch(fill, { values }, { value: 0, count: values.size });
    }
    return state;
  }

  /** Number of sequences. */
  get batch(): number {
    return this.#ssm.shape[1] ?? 0;
  }

  /** A state of the same position whose values are undefined, for a pass to write. It belongs to the current scope. */
  like(): State {
    const { backend } = this.#ssm;
    return new State(empty(backend, this.#conv.shape), empty(backend, this.#ssm.shape), this.position, this.#owner);
  }

  /** An independent state of the same values. */
  copy(): State {
    const copied = withoutScope(() => this.like());
    copied.assign(this);
    return copied;
  }

  /** Takes over values and position; this state's memory stays where it is, so captured steps stay valid. */
  assign(other: State): void {
    if (this.#conv.size > 0) copyInto(other.#conv, this.#conv);
    copyInto(other.#ssm, this.#ssm);
    this.position = other.position;
  }

  /** The state as a safetensors file in memory, with the fingerprint of the model's weights (`MambaLM.fingerprint`) and checksums. */
  async serialize(): Promise<Uint8Array> {
    const position = String(this.position);
    const sources: SafetensorsSource[] = [];
    for (const [key, value] of this.#named()) sources.push(await float32Source(key, value));
    const metadata = { kind: 'elapid-mamba-state', position, fingerprint: await this.#owner.fingerprint() };
    const chunks = [...(await checksummedChunks(sources, metadata))];
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
    const { fingerprint } = metadata;
    const others = fingerprint !== undefined && fingerprint !== (await model.fingerprint());
    const state = State.#empty(model, batch);
    state.position = position;
    try {
      for (const [key, part] of state.#named()) part.write(values(key, part.shape));
      // Last, since the wrong shape says more.
      if (others) {
        throw new CheckpointError(
          'the state was made with other weights of the same shapes; with these it would go on wrongly. Hint: restore it to the model it is of; ' +
            'a model that was trained since, or packed in another format, is another one.',
          { file: name, key: '__metadata__.fingerprint' },
        );
      }
    } catch (error) {
      state.dispose();
      throw error;
    }
    return state;
  }

  /** Bytes of one sequence's state. */
  static sizeBytes({ layers, dConv, dInner, dState }: MambaConfig): number {
    return layers * dInner * (dConv - 1 + dState) * 4;
  }

  /**
   * Throws unless this state is for `batch` sequences.
   * @throws ArgumentError
   */
  expectBatch(operation: string, batch: number): void {
    if (this.batch === batch) return;
    throw new ArgumentError(
      describeProblem({ operation, argument: 'state', expected: `${String(batch)} sequences`, got: String(this.batch) }),
    );
  }

  dispose(): void {
    for (const [, part] of this.#named()) part.dispose();
    this.#conv.dispose();
    this.#ssm.dispose();
  }

  *#named(): Generator<[string, Tensor]> {
    for (const [i, { conv, ssm }] of this.layers.entries()) {
      yield [`${String(i)}.conv`, conv];
      yield [`${String(i)}.ssm`, ssm];
    }
  }
}
