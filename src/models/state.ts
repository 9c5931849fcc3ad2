import { fill } from '../backend/memory/kernels.js';
import { checksummedChunks, parseSafetensors, toFloat32, verifySafetensors, type SafetensorsSource } from '../io/index.js';
import type { Memory, Slot } from '../nn/index.js';
import { copyInto } from '../ops/view/view.js';
import { empty, formatShape, keep, launch, sameShape, scope, sizeOf, withoutScope, type Backend, type Shape, type Tensor } from '../tensor/index.js';
import { disposeSymbol } from '../util/disposal.js';
import { ArgumentError, CheckpointError, DisposedError } from '../util/errors.js';
import { float32Source } from './tensor-source.js';

/** What serialised states are marked with; the older mark is that of Mamba's alone, in the same layout. */
const kinds: ReadonlySet<string> = new Set(['elapid-state', 'elapid-mamba-state']);

/** What each mixer of a model remembers of a sequence. */
export type Layout = readonly Readonly<Record<string, Slot>>[];

/** What a state is a state of. */
export interface StateOwner {
  readonly backend: Backend;
  readonly mixers: readonly { readonly slots: Readonly<Record<string, Slot>> }[];
  fingerprint(): Promise<string>;
}

/** Something that goes on over several passes, as a generation does, and has a state to itself meanwhile. */
export interface StateUse {
  /** Gives the state back. */
  end(): void;
}

/** Slots of one name and shape. */
interface SlotGroup {
  readonly name: string;
  readonly shape: Shape;
  /** The mixers that have them. */
  readonly members: readonly number[];
}

/**
 * All a model remembers of its sequences: for each mixer the slots that it declares, [B, …slot], in float32. Models update it in
 * place; `copy` forks it, `serialize` and `State.restore` carry it to another process. It is of use to the model alone that made or restored it.
 */
export class State implements Disposable {
  /** One for each mixer: parts of the memory of all. */
  readonly layers: readonly Memory[];
  readonly #batch: number;
  /** Slots of one name and shape lie together, [mixers, B, …slot]: a copy is one launch for all. */
  readonly #groups: readonly Tensor<'f32'>[];
  readonly #owner: StateOwner;
  readonly #slots: readonly SlotGroup[];
  #taken: { readonly use: StateUse; readonly user: string } | null = null;
  #disposed = false;

  /** Values are undefined. It belongs to the current scope. @param position tokens seen so far */
  private constructor(
    owner: StateOwner,
    batch: number,
    public position: number,
    slots: readonly SlotGroup[] = groupsOf(layoutOf(owner)),
  ) {
    const layers: Record<string, Tensor>[] = owner.mixers.map(() => ({}));
    this.#slots = slots;
    this.#groups = slots.map(({ name, shape, members }) => {
      const all = empty(owner.backend, [members.length, batch, ...shape], 'f32');
      const part = [batch, ...shape];
      for (const [i, member] of members.entries()) (layers[member] as Record<string, Tensor>)[name] = all.aliased(part, i * sizeOf(part));
      return all;
    });
    this.layers = layers;
    this.#batch = batch;
    this.#owner = owner;
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
      const state = new State(owner, batch, 0);
      for (const values of state.#groups) {
        if (values.size > 0) launch(fill, { values }, { value: 0, count: values.size });
      }
      return state;
    });
  }

  /** Number of sequences. */
  get batch(): number {
    return this.#batch;
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  /** A state of the same position whose values are undefined, for a pass to write. It belongs to the current scope. */
  like(): State {
    this.#expectLive('State.like');
    return new State(this.#owner, this.#batch, this.position, this.#slots);
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
    for (const [i, group] of this.#groups.entries()) if (group.size > 0) copyInto(other.#groups[i] as Tensor, group);
    this.position = other.position;
  }

  /** The state as a safetensors file in memory, with the fingerprint of the model's weights (`LanguageModel.fingerprint`) and checksums. */
  async serialize(): Promise<Uint8Array> {
    this.#expectLive('State.serialize');
    // All reads begin at once: a step that is taken meanwhile comes after them.
    const position = String(this.position);
    const [fingerprint, ...sources] = await Promise.all([
      this.#owner.fingerprint(),
      ...[...this.named()].map(([key, value]): Promise<SafetensorsSource> => float32Source(key, value)),
    ]);
    const chunks = [...(await checksummedChunks(sources, { kind: 'elapid-state', position, fingerprint }))];
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
    if (!kinds.has(metadata['kind'] ?? '') || !Number.isSafeInteger(position) || position < 0) {
      throw new CheckpointError('not the state of a model', { file: name, key: '__metadata__' });
    }
    const layout = layoutOf(model);
    const expected = new Set(layout.flatMap((slots, i) => Object.keys(slots).map((slot) => `${i}.${slot}`)));
    const more = [...tensors.keys()].find((key) => !expected.has(key));
    if (more !== undefined) throw new CheckpointError('is no part of this model’s state', { file: name, key: more });
    const batch = [...tensors.values()][0]?.shape[0] ?? 0;
    const values = (key: string, shape: readonly number[]): ArrayLike<number> => {
      const stored = tensors.get(key);
      if (stored?.dtype !== 'F32' || !sameShape(stored.shape, shape)) {
        const got = stored === undefined ? 'missing' : `${stored.dtype} ${formatShape(stored.shape)}`;
        throw new CheckpointError(`is ${got}; expected F32 ${formatShape(shape)} for this model`, { file: name, key });
      }
      return toFloat32(stored.bytes, 'F32');
    };
    const stored = layout.flatMap((slots, i) =>
      Object.entries(slots).map(([slot, { shape }]) => [`${i}.${slot}`, values(`${i}.${slot}`, [batch, ...shape])] as const),
    );
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
      const state = new State(model, batch, position);
      const parts = new Map(state.named());
      for (const [key, numbers] of stored) parts.get(key)?.write(numbers);
      return state;
    });
  }

  /** Bytes of one sequence's state. */
  static sizeBytes(owner: Pick<StateOwner, 'mixers'>): number {
    return 4 * layoutOf(owner).reduce((sum, slots) => sum + Object.values(slots).reduce((size, { shape }) => size + sizeOf(shape), 0), 0);
  }

  /**
   * Throws unless this is a state of `model` for `batch` sequences.
   * @throws DisposedError when it was disposed
   * @throws ArgumentError when it is another model's or another backend's, or for another number of sequences
   */
  expectOf(operation: string, model: StateOwner, batch: number): void {
    this.#expectLive(operation);
    if (this.#owner !== model) {
      const [expected, got] = [describeLayout(layoutOf(model)), describeLayout(layoutOf(this.#owner))];
      if (got !== expected) throw wrongState(operation, `a state of ${expected}, this model’s`, `a state of ${got}`);
      const { backend } = this.#owner;
      if (backend !== model.backend) {
        throw wrongState(operation, `one on the model’s backend, ${model.backend.description}`, `on another: ${backend.description}`);
      }
      throw wrongState(operation, 'one that this model’s newState() made', 'another model’s of the same sizes');
    }
    if (this.batch !== batch) throw wrongState(operation, `${batch} sequences`, String(this.batch));
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
    this.#disposed = true;
    for (const tensor of this.#tensors()) tensor.dispose();
  }

  [disposeSymbol](): void {
    this.dispose();
  }

  /** The memory of all mixers, by `3.ssm`. */
  *named(): Generator<[string, Tensor]> {
    for (const [i, memory] of this.layers.entries()) {
      for (const [slot, tensor] of Object.entries(memory)) yield [`${i}.${slot}`, tensor];
    }
  }

  #expectLive(operation: string): void {
    if (this.disposed) throw new DisposedError(`${operation}: the state was disposed`);
  }

  #tensors(): Tensor[] {
    return [...this.layers.flatMap((memory) => Object.values(memory)), ...this.#groups];
  }
}

const layoutOf = ({ mixers }: Pick<StateOwner, 'mixers'>): Layout => mixers.map(({ slots }) => slots);

function groupsOf(layout: Layout): SlotGroup[] {
  const groups = new Map<string, { name: string; shape: Shape; members: number[] }>();
  for (const [i, slots] of layout.entries()) {
    for (const [name, { shape }] of Object.entries(slots)) {
      const key = `${name} ${formatShape(shape)}`;
      const group = groups.get(key) ?? { name, shape, members: [] };
      group.members.push(i);
      groups.set(key, group);
    }
  }
  return [...groups.values()];
}

/** `24 × conv [3,1536], 24 × ssm [1536,16]` */
const describeLayout = (layout: Layout): string =>
  groupsOf(layout).map(({ name, shape, members }) => `${members.length} × ${name} ${formatShape(shape)}`).join(', ');

function wrongState(operation: string, expected: string, got: string, hint?: string): ArgumentError {
  return new ArgumentError({ operation, argument: 'state', expected, got, hint });
}
