import { parseSafetensors, safetensorsChunks, toFloat32, type SafetensorsSource } from '../../io/index.js';
import { fill } from '../../backend/memory/kernels.js';
import { CheckpointError, describeProblem, ArgumentError } from '../../util/errors.js';
import { empty, formatShape, launch, sameShape, tensor, withoutScope, type Backend, type Tensor } from '../../tensor/index.js';
import { copyInto } from '../../ops/index.js';
import { float32Source } from '../tensor-source.js';
import type { MambaConfig } from './config.js';
import type { MixerState } from './mixer.js';

/**
 * All a Mamba model remembers of a sequence, in memory that does not grow with it: for each layer the last inputs of the
 * convolution [B,K−1,E] and the scan's state [B,E,N], in float32. Models update it in place; `copy` forks it,
 * `serialize` and `State.restore` carry it to another process.
 */
export class State {
  /** @param layers one for each block @param position tokens seen so far */
  private constructor(
    readonly layers: readonly MixerState[],
    public position: number,
  ) {}

  /** The state before the first token: zeros. */
  static zero(backend: Backend, config: MambaConfig, batch: number): State {
    const { layers, dConv, dInner, dState } = config;
    const zeros = (shape: readonly number[]) => {
      const made = empty(backend, shape);
      if (made.size > 0) launch(fill, { values: made }, { value: 0, count: made.size });
      return made;
    };
    return withoutScope(() => {
      const each = Array.from({ length: layers }, () => ({
        conv: zeros([batch, dConv - 1, dInner]),
        ssm: zeros([batch, dInner, dState]),
      }));
      return new State(each, 0);
    });
  }

  /** Number of sequences. */
  get batch(): number {
    return this.layers[0]?.ssm.shape[0] ?? 0;
  }

  /** An independent state of the same values. */
  copy(): State {
    const clone = (from: Tensor) => {
      const to = empty(from.backend, from.shape);
      if (from.size > 0) copyInto(from, to);
      return to;
    };
    return withoutScope(() => new State(this.layers.map(({ conv, ssm }) => ({ conv: clone(conv), ssm: clone(ssm) })), this.position));
  }

  /** Takes over the values of `layers`; this state's memory stays where it is, so captured steps stay valid. */
  assign(layers: readonly MixerState[], position: number): void {
    this.layers.forEach((own, i) => {
      const other = layers[i];
      if (other === undefined) return;
      if (own.conv.size > 0) copyInto(other.conv, own.conv);
      copyInto(other.ssm, own.ssm);
    });
    this.position = position;
  }

  /** The state as a safetensors file in memory. */
  async serialize(): Promise<Uint8Array> {
    const sources: SafetensorsSource[] = [];
    for (const [key, value] of this.#named()) sources.push(await float32Source(key, value));
    const chunks = [...safetensorsChunks(sources, { kind: 'elapid-mamba-state', position: String(this.position) })];
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
    const { layers, dConv, dInner, dState } = config;
    const batch = tensors.get('0.ssm')?.shape[0] ?? 0;
    const read = (key: string, shape: readonly number[]): Tensor => {
      const stored = tensors.get(key);
      if (stored?.dtype !== 'F32' || !sameShape(stored.shape, shape)) {
        const got = stored === undefined ? 'missing' : `${stored.dtype} ${formatShape(stored.shape)}`;
        throw new CheckpointError(`is ${got}; expected F32 ${formatShape(shape)} for this model`, { file: name, key });
      }
      return tensor(backend, toFloat32(stored.bytes, 'F32'), shape);
    };
    if (tensors.size !== 2 * layers) {
      throw new CheckpointError(`has ${String(tensors.size)} tensors; expected 2 for each of ${String(layers)} layers`, { file: name });
    }
    return withoutScope(() => {
      const made: MixerState[] = [];
      try {
        for (let layer = 0; layer < layers; layer++) {
          const conv = read(`${String(layer)}.conv`, [batch, dConv - 1, dInner]);
          made.push({ conv, ssm: conv });
          made[layer] = { conv, ssm: read(`${String(layer)}.ssm`, [batch, dInner, dState]) };
        }
      } catch (error) {
        for (const { conv, ssm } of made) {
          conv.dispose();
          ssm.dispose();
        }
        throw error;
      }
      return new State(made, position);
    });
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
    for (const [, value] of this.#named()) value.dispose();
  }

  *#named(): Generator<[string, Tensor]> {
    for (const [i, { conv, ssm }] of this.layers.entries()) {
      yield [`${String(i)}.conv`, conv];
      yield [`${String(i)}.ssm`, ssm];
    }
  }
}
