import { checksummedChunks, parseSafetensors, toFloat32, verifySafetensors, type SafetensorsSource } from '../io/index.js';
import type { Memory, Places, Slot } from '../nn/index.js';
import { pageLength } from '../ops/attention/reference.js';
import { mostPositions } from '../ops/rotary/frequencies.js';
import { formatShape, keep, sameShape, scope, sizeOf, withoutScope, type Backend, type FloatDType, type Tensor } from '../tensor/index.js';
import { disposeSymbol } from '../util/disposal.js';
import { ArgumentError, CheckpointError, describeValue, DisposedError } from '../util/errors.js';
import { PagedMemory } from './paged-memory.js';
import { PagePool, pageBytes } from './page-pool.js';
import { describeGroups, groupsOf, SlotMemory, type Layout, type SlotGroup } from './slots.js';
import { floatSource } from './tensor-source.js';

/** What serialised states are marked with; the older mark is that of Mamba's alone, in the same layout. */
const kinds: ReadonlySet<string> = new Set(['elapid-state', 'elapid-mamba-state']);

/** What keys and values can be kept in. */
export const cacheDTypes: readonly FloatDType[] = ['f32', 'f16'];

/** What a state is a state of. */
export interface StateOwner {
  readonly backend: Backend;
  readonly mixers: readonly { readonly slots: Readonly<Record<string, Slot>> }[];
  fingerprint(): Promise<string>;
}

/** Options of a new state. */
export interface StateOptions {
  /**
   * What keys and values are kept in. 'f16' takes half the memory of 'f32', and attention to many positions half the time. Default: 'f16'
   * where the backend's precision is f16, else 'f32'.
   */
  readonly cacheDType?: FloatDType | undefined;
}

/** Something that goes on over several passes, as a generation does, and has a state to itself meanwhile. */
export interface StateUse {
  /** Gives the state back. */
  end(): void;
}

/** What a pass over a sequence reads of a state, and where it writes. */
export interface StatePass {
  /** By mixer, what came before. */
  readonly before: readonly Memory[];
  /** By mixer, where the memory after the last position is written. */
  readonly after: readonly Memory[];
  readonly places: Places | undefined;
  /** The state is that after the pass from here on. */
  end(): void;
  /** Frees what the scope does not; after `end`, or where the pass has failed. */
  close(): void;
}

/**
 * All a model remembers of its sequences: for each mixer the slots that it declares. Slots of a fixed size are [B, …slot], in float32;
 * those with an entry for each position, in `cacheDType`, lie in pages of 64 positions, of which a state takes more as it goes on. Models update it in
 * place; `copy` forks it, `serialize` and `State.restore` carry it to another process. It is of use to the model alone that made or
 * restored it.
 */
export class State implements Disposable {
  /** Tokens seen so far. */
  position: number;
  /** What keys and values are kept in. */
  readonly cacheDType: FloatDType;
  readonly #owner: StateOwner;
  readonly #slots: readonly SlotGroup[];
  readonly #fixed: SlotMemory;
  readonly #paged: PagedMemory | null;
  #layers: readonly Memory[] = [];
  #layersOf = -1;
  #taken: { readonly use: StateUse; readonly user: string } | null = null;
  #disposed = false;

  /** Values are undefined. It belongs to the current scope. */
  private constructor(owner: StateOwner, batch: number, position: number, cacheDType: FloatDType, pool?: PagePool) {
    const { backend, mixers } = owner;
    this.#owner = owner;
    this.position = position;
    this.cacheDType = cacheDType;
    this.#slots = groupsOf(layoutOf(owner), cacheDType);
    this.#fixed = new SlotMemory(backend, this.#slots.filter(({ perPosition }) => !perPosition), batch, mixers.length);
    const growing = this.#slots.filter(({ perPosition }) => perPosition);
    this.#paged = growing.length === 0 ? null : new PagedMemory(pool ?? new PagePool(backend, growing, mixers.length), backend, batch);
  }

  /** A state that is in no scope; where making it fails, its memory is freed. */
  static #lasting(make: () => State): State {
    return withoutScope(() =>
      scope(() => {
        const state = make();
        for (const made of state.#tensors()) keep(made);
        return state;
      }),
    );
  }

  /**
   * The state of `owner` before the first token: zeros.
   * @throws ArgumentError when `cacheDType` is no float dtype; BackendError when the backend has no f16
   */
  static zero(owner: StateOwner, batch: number, options: StateOptions = {}): State {
    const cacheDType = cacheDTypeOf('newState', owner, options);
    return State.#lasting(() => {
      const state = new State(owner, batch, 0, cacheDType);
      state.#fixed.clear();
      return state;
    });
  }

  /** Number of sequences. */
  get batch(): number {
    return this.#fixed.batch;
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  /** The memory of each mixer: slots [B, …slot], or [pages, 64, …slot] where there is one for each position. */
  get layers(): readonly Memory[] {
    const pool = this.#paged?.pool;
    if (pool === undefined) return this.#fixed.parts;
    if (this.#layersOf !== pool.generation) {
      this.#layers = this.#fixed.parts.map((memory, i) => ({ ...memory, ...pool.parts[i] }));
      this.#layersOf = pool.generation;
    }
    return this.#layers;
  }

  /** Grows whenever memory of the state has moved, or a step has to read more of it: what was captured before is of no use then. */
  get generation(): number {
    return this.#paged?.generation ?? 0;
  }

  /** Where the next position of each sequence is, for a step; undefined where no slot has an entry for each position. */
  get places(): Places | undefined {
    return this.#paged?.places;
  }

  /**
   * Makes room for `count` positions more, so that as many steps need no memory. Passes do so themselves.
   * @throws ArgumentError when there would be more positions than there can be
   */
  reserve(count: number): void {
    this.#expectLive('State.reserve');
    if (this.#paged === null) return;
    if (this.position + count > mostPositions) {
      const expected = `at most ${mostPositions} positions`;
      throw wrongState('State.reserve', expected, `${count} after ${this.position}`);
    }
    this.#paged.reserve(this.position, count);
  }

  /**
   * Begins a pass over `length` positions. Tensors that it makes belong to the current scope.
   * @param starts [B,L] i32, nonzero where a document starts
   * @param recorded whether gradient rules will read the memory as it was
   */
  pass(length: number, starts: Tensor | undefined, recorded: boolean): StatePass {
    this.reserve(length);
    const before = recorded ? this.#fixed.like() : this.#fixed;
    if (recorded) before.assign(this.#fixed);
    const after = this.#fixed.like();
    const paged = this.#paged?.pass(this.position, length, starts, recorded);
    const all = ({ parts }: SlotMemory) => (paged === undefined ? parts : parts.map((memory, i) => ({ ...memory, ...paged.parts[i] })));
    return {
      before: all(before),
      after: all(after),
      places: paged?.places,
      end: () => {
        this.#fixed.assign(after);
        paged?.end();
        this.position += length;
      },
      close: () => paged?.close(),
    };
  }

  /** The device's count of positions goes on by one: the last launch of a step. `position` is the host's. */
  advance(): void {
    this.#paged?.advance();
  }

  /** An independent state of the same values. Pages of positions are shared until one of the two writes to them. */
  copy(): State {
    this.#expectLive('State.copy');
    return State.#lasting(() => {
      const copied = new State(this.#owner, this.batch, 0, this.cacheDType, this.#paged?.pool.join());
      copied.assign(this);
      return copied;
    });
  }

  /**
   * Takes over values and position; this state's memory stays where it is, so captured steps stay valid. Keys and values are rounded or
   * widened where the two keep them in different dtypes.
   * @throws ArgumentError when `other` is another model's, or for another number of sequences
   */
  assign(other: State): void {
    const operation = 'State.assign';
    this.#expectLive(operation);
    other.expectOf(operation, this.#owner, this.batch);
    if (other === this) return;
    this.#fixed.assign(other.#fixed);
    if (other.#paged !== null) this.#paged?.assign(other.#paged, other.position);
    this.position = other.position;
  }

  /**
   * Goes back to an earlier position, where all memory is by position: what came after it is forgotten, and its pages are free again.
   * @param position at most the state's own
   * @throws ArgumentError when memory of a fixed size would have to go back too, or the state has read where documents start; a copy of
   *   the state at that position, and reading on from there, does it for every model
   */
  truncate(position: number): void {
    const operation = 'State.truncate';
    this.#expectLive(operation);
    if (!Number.isInteger(position) || position < 0 || position > this.position) {
      throw new ArgumentError({ operation, argument: 'position', expected: `an integer from 0 to the state’s position, ${this.position}`, got: String(position) });
    }
    if (position === this.position) return;
    const hint = 'keep a copy() of the state from before, and go on from that';
    const [fixed] = this.#slots.filter(({ perPosition }) => !perPosition);
    if (fixed !== undefined || this.#paged === null) throw wrongState(operation, 'one whose memory is all by position', `one with ${fixed?.name ?? 'none'}`, hint);
    if (this.#paged.documents) throw wrongState(operation, 'one that has read one document a sequence', 'one that has read where documents start', hint);
    this.#paged.truncate(position);
    this.position = position;
  }

  /** The state as a safetensors file in memory, with the fingerprint of the model's weights (`LanguageModel.fingerprint`) and checksums. */
  async serialize(): Promise<Uint8Array> {
    this.#expectLive('State.serialize');
    // All reads begin at once: a step that is taken meanwhile comes after them.
    const position = String(this.position);
    const parts = [...this.#stored()];
    const begins = this.#paged?.documents === true ? this.#paged.begins.data() : null;
    try {
      const [fingerprint, starts, ...sources] = await Promise.all([
        this.#owner.fingerprint(),
        begins,
        ...parts.map(({ key, value }): Promise<SafetensorsSource> => floatSource(key, value)),
      ]);
      const metadata = { kind: 'elapid-state', position, fingerprint, ...(starts === null ? {} : { begins: starts.join(',') }) };
      const chunks = [...(await checksummedChunks(sources, metadata))];
      const bytes = new Uint8Array(chunks.reduce((sum, { length }) => sum + length, 0));
      let at = 0;
      for (const chunk of chunks) {
        bytes.set(chunk, at);
        at += chunk.length;
      }
      return bytes;
    } finally {
      for (const { value, own } of parts) if (own) value.dispose();
    }
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
    if (!kinds.has(metadata['kind'] ?? '') || !Number.isSafeInteger(position) || position < 0 || position > mostPositions) {
      throw new CheckpointError('not the state of a model', { file: name, key: '__metadata__' });
    }
    const layout = layoutOf(model);
    const expected = new Set(layout.flatMap((slots, i) => Object.keys(slots).map((slot) => `${i}.${slot}`)));
    const more = [...tensors.keys()].find((key) => !expected.has(key));
    if (more !== undefined) throw new CheckpointError('is no part of this model’s state', { file: name, key: more });
    const batch = [...tensors.values()][0]?.shape[0] ?? 0;
    const begins = metadata['begins']?.split(',').map(Number);
    if (begins !== undefined && !(begins.length === batch && begins.every((begin) => Number.isInteger(begin) && begin >= 0 && begin <= position))) {
      throw new CheckpointError(`is ${metadata['begins'] ?? ''}; expected ${batch} positions`, { file: name, key: '__metadata__.begins' });
    }
    // All keys and values are of one dtype: the first one's.
    const cached = layout.flatMap((slots, i) => Object.entries(slots).flatMap(([slot, { perPosition }]) => (perPosition === true ? [`${i}.${slot}`] : [])));
    const cacheDType = tensors.get(cached[0] ?? '')?.dtype === 'F16' ? 'f16' : 'f32';
    const values = (key: string, shape: readonly number[], dtype: 'F32' | 'F16'): Float32Array => {
      const stored = tensors.get(key);
      if (stored?.dtype !== dtype || !sameShape(stored.shape, shape)) {
        const got = stored === undefined ? 'missing' : `${stored.dtype} ${formatShape(stored.shape)}`;
        throw new CheckpointError(`is ${got}; expected ${dtype} ${formatShape(shape)} for this model`, { file: name, key });
      }
      return toFloat32(stored.bytes, dtype);
    };
    const stored = new Map(
      layout.flatMap((slots, i) =>
        Object.entries(slots).map(([slot, { shape, perPosition }]) => {
          const key = `${i}.${slot}`;
          const own = perPosition === true ? values(key, [batch, position, ...shape], cacheDType === 'f16' ? 'F16' : 'F32') : values(key, [batch, ...shape], 'F32');
          return [key, own] as const;
        }),
      ),
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
      const state = new State(model, batch, position, cacheDType);
      for (const [i, memory] of state.#fixed.parts.entries()) {
        for (const [slot, part] of Object.entries(memory)) part.write(stored.get(`${i}.${slot}`) as Float32Array);
      }
      state.#paged?.fill(position, stored, begins);
      return state;
    });
  }

  /**
   * Bytes of one sequence's state after so many positions.
   * @param positions what is by position is counted in whole pages of 64
   */
  static sizeBytes(owner: Pick<StateOwner, 'mixers' | 'backend'>, positions = 0, options: StateOptions = {}): number {
    const groups = groupsOf(layoutOf(owner), cacheDTypeOf('State.sizeBytes', owner, options));
    const fixed = groups.filter(({ perPosition }) => !perPosition);
    const pages = Math.ceil(positions / pageLength) * pageBytes(groups.filter(({ perPosition }) => perPosition));
    return pages + 4 * fixed.reduce((sum, { shape, members }) => sum + members.length * sizeOf(shape), 0);
  }

  /** Bytes of what the state has to itself, and of the pages that it shares with copies of it. */
  get bytes(): { readonly own: number; readonly shared: number } {
    const { own, shared } = this.#paged?.bytes ?? { own: 0, shared: 0 };
    return { own: own + this.#fixed.bytes, shared };
  }

  /**
   * Throws unless this is a state of `model` for `batch` sequences.
   * @throws DisposedError when it was disposed
   * @throws ArgumentError when it is another model's or another backend's, or for another number of sequences
   */
  expectOf(operation: string, model: StateOwner, batch: number): void {
    this.#expectLive(operation);
    if (this.#owner !== model) {
      const [expected, got] = [describeGroups(groupsOf(layoutOf(model), this.cacheDType)), describeGroups(this.#slots)];
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
    if (this.#disposed) return;
    this.#disposed = true;
    for (const made of this.#fixed.tensors) made.dispose();
    this.#paged?.dispose();
  }

  [disposeSymbol](): void {
    this.dispose();
  }

  /** The memory of all mixers, by `3.ssm`, of slots with a fixed size. */
  *named(): Generator<[string, Tensor]> {
    for (const [i, memory] of this.#fixed.parts.entries()) {
      for (const [slot, part] of Object.entries(memory)) yield [`${i}.${slot}`, part];
    }
  }

  /** What a file holds: by position [B, position, …slot]. */
  *#stored(): Generator<{ readonly key: string; readonly value: Tensor; readonly own: boolean }> {
    for (const [key, value] of this.named()) yield { key, value, own: false };
    if (this.#paged !== null) for (const [key, value] of this.#paged.gathered(this.position)) yield { key, value, own: true };
  }

  #expectLive(operation: string): void {
    if (this.disposed) throw new DisposedError(`${operation}: the state was disposed`);
  }

  #tensors(): Tensor[] {
    return [...this.#fixed.tensors, ...(this.#paged?.tensors ?? [])];
  }
}

const layoutOf = ({ mixers }: Pick<StateOwner, 'mixers'>): Layout => mixers.map(({ slots }) => slots);

/** @throws ArgumentError when the options ask for another than a float dtype */
function cacheDTypeOf(operation: string, { backend }: Pick<StateOwner, 'backend'>, { cacheDType = backend.precision === 'f16' ? 'f16' : 'f32' }: StateOptions): FloatDType {
  if (cacheDTypes.includes(cacheDType)) return cacheDType;
  throw new ArgumentError({ operation, argument: 'cacheDType', expected: cacheDTypes.join(' or '), got: describeValue(cacheDType) });
}

function wrongState(operation: string, expected: string, got: string, hint?: string): ArgumentError {
  return new ArgumentError({ operation, argument: 'state', expected, got, hint });
}
