import { checksummedChunks, parseSafetensors, toFloat32, type SafetensorsSource } from '../../io/index.js';
import { fill } from '../../backend/memory/kernels.js';
import { CheckpointError, describeProblem, ArgumentError } from '../../util/errors.js';
import { empty, formatShape, launch, sameShape, sizeOf, withoutScope, type Backend, type Tensor } from '../../tensor/index.js';
import { copyInto } from '../../ops/index.js';
import { float32Source } from '../tensor-source.js';
import type { MambaConfig } from './config.js';
import type { MixerState } from './mixer.js';

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

  /** @param conv [layers,B,K−1,E] @param ssm [layers,B,E,N] @param position tokens seen so far */
  private constructor(
    conv: Tensor,
    ssm: Tensor,
    public position: number,
  ) {
    const layer = (all: Tensor, i: number) => all.aliased(all.shape.slice(1), i * sizeOf(all.shape.slice(1)));
    this.#conv = conv;
    this.#ssm = ssm;
    this.layers = Array.from({ length: ssm.shape[0] ?? 0 }, (_, i) => ({ conv: layer(conv, i), ssm: layer(ssm, i) }));
  }

  /** A state whose values are undefined. */
  static #empty(backend: Backend, { layers, dConv, dInner, dState }: MambaConfig, batch: number): State {
    return withoutScope(
      () => new State(empty(backend, [layers, batch, dConv - 1, dInner]), empty(backend, [layers, batch, dInner, dState]), 0),
    );
  }

  /** The state before the first token: zeros. */
  static zero(backend: Backend, config: MambaConfig, batch: number): State {
    const state = State.#empty(backend, config, batch);
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
    return new State(empty(backend, this.#conv.shape), empty(backend, this.#ssm.shape), this.position);
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

  /** The state as a safetensors file in memory. */
  async serialize(): Promise<Uint8Array> {
    const sources: SafetensorsSource[] = [];
    for (const [key, value] of this.#named()) sources.push(await float32Source(key, value));
    const chunks = [...(await checksummedChunks(sources, { kind: 'elapid-mamba-state', position: String(this.position) }))];
    const bytes = new Uint8Array(chunks.reduce((sum, { length }) => sum + length, 0));
    let at = 0;
    for (const chunk of chunks) {
      bytes.set(chunk, at);
      at += chunk.length;
    }
    return bytes;
  }

  /**
   * What `serialize` gave, on a backend.
   * @throws CheckpointError when the bytes are damaged or are the state of another kind of model
   */
  static restore(backend: Backend, config: MambaConfig, bytes: Uint8Array): State {
    const name = '(serialised state)';
    const { tensors, metadata } = parseSafetensors(bytes, name);
    const position = Number(metadata['position']);
    if (metadata['kind'] !== 'elapid-mamba-state' || !Number.isSafeInteger(position) || position < 0) {
      throw new CheckpointError('not the state of a Mamba model', { file: name, key: '__metadata__' });
    }
    const { layers } = config;
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
    const state = State.#empty(backend, config, batch);
    state.position = position;
    try {
      for (const [key, part] of state.#named()) part.write(values(key, part.shape));
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
