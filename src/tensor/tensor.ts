import { disposeSymbol } from '../util/disposal.js';
import { ArgumentError, DisposedError, DTypeError, ShapeError } from '../util/errors.js';
import type { Backend, BufferView, DeviceBuffer } from './backend.js';
import { isPacked, type DType, type HostArray } from './dtype.js';
import { noteHostValues } from './known-range.js';
import { checkedShape, formatShape, sizeOf, type Shape } from './shape.js';
import { checkValues } from './values.js';

/** A buffer and the number of tensors that use it. */
class Storage {
  /** How often it was written to. */
  writes = 0;
  #users = 1;

  constructor(
    readonly backend: Backend,
    readonly buffer: DeviceBuffer,
  ) {}

  share(): this {
    this.#users++;
    return this;
  }

  get shared(): boolean {
    return this.#users > 1;
  }

  drop(): void {
    if (--this.#users === 0) this.backend.release(this.buffer);
  }
}

/** The key of the method whose string Node's `console.log` prints. */
const inspectSymbol = Symbol.for('nodejs.util.inspect.custom');

let nextId = 1;

/** Elements from the first to the last of rows that are `pitch` apart. */
function spannedBy(rows: number, columns: number, pitch: number): number {
  return rows === 0 || columns === 0 ? 0 : (rows - 1) * pitch + columns;
}

/**
 * A typed array of some shape in a backend's memory. `Tensor<'f32'>` is one of a known dtype, whose `data()` gives a
 * Float32Array; `Tensor` alone is one of any.
 *
 * Rows (the last axis) are contiguous; consecutive rows are `pitch` elements apart, so that a part of the last axis can be
 * a tensor without a copy (`narrow`). Everything else is dense, outermost axis first.
 */
export class Tensor<D extends DType = DType> implements Disposable {
  /** The scope that owns new tensors; set by `scope()`. */
  static currentScope: Set<Tensor> | null = null;

  readonly shape: Shape;
  readonly dtype: D;
  /** Elements from one row to the next; equal to the last extent when the tensor is dense. */
  readonly pitch: number;
  /** Product of all extents but the last: the rows. */
  readonly rows: number;
  /** The last extent. */
  readonly columns: number;
  /** Identity for gradients: handles made by `retain` share it. */
  readonly id: number;
  readonly #offset: number;
  #storage: Storage | null;

  private constructor(storage: Storage, shape: Shape, offset: number, pitch: number, id = nextId++) {
    this.#storage = storage;
    this.shape = shape;
    this.columns = shape.at(-1) ?? 1;
    this.rows = sizeOf(shape.slice(0, -1));
    this.dtype = storage.buffer.dtype as D;
    this.#offset = offset;
    this.pitch = pitch;
    this.id = id;
    Tensor.currentScope?.add(this);
  }

  /** A tensor over a whole buffer, which it then owns. */
  static over<D extends DType = DType>(backend: Backend, buffer: DeviceBuffer & { readonly dtype: D }, shape: Shape): Tensor<D> {
    return new Tensor(new Storage(backend, buffer), shape, 0, shape.at(-1) ?? 1);
  }

  get backend(): Backend {
    return this.#live().backend;
  }

  /** Number of elements. */
  get size(): number {
    return this.rows * this.columns;
  }

  /** Number of axes. */
  get rank(): number {
    return this.shape.length;
  }

  /**
   * Grows whenever the memory this tensor is over is written to, by `write` or a launch (a replay is not counted): tells whether
   * what was worked out from the values is out of date.
   */
  get version(): number {
    return this.#live().writes;
  }

  /** Counts a write; for what writes. */
  written(): void {
    this.#live().writes++;
  }

  /** Whether rows follow one another without gaps. */
  get dense(): boolean {
    return this.pitch === this.columns || this.rows === 1;
  }

  get disposed(): boolean {
    return this.#storage === null;
  }

  /** The memory this tensor covers, from its first element to its last; of a packed weight, all of it. */
  get view(): BufferView {
    const { buffer } = this.#live();
    if (isPacked(this.dtype)) return { buffer, offset: 0, size: buffer.size };
    return { buffer, offset: this.#offset, size: spannedBy(this.rows, this.columns, this.pitch) };
  }

  /**
   * The values, dense, after everything launched so far: Float32Array for f32 and f16, Int32Array for i32, or the bytes of a
   * packed weight as Uint8Array.
   * @param into what an earlier `data` of this tensor gave: may be filled and returned, which saves making an array
   */
  async data(into?: HostArray<D>): Promise<HostArray<D>> {
    return this.#withoutGaps((await this.#live().backend.read(this.view, this.dense ? into : undefined)) as HostArray<D>);
  }

  /** The values of `data()` as float64: from the reference backend, which computes so, without rounding. */
  async exactData(): Promise<Float64Array> {
    const { backend } = this.#live();
    if (backend.readExact === undefined) return new Float64Array(await this.data());
    return this.#withoutGaps(await backend.readExact(this.view));
  }

  /**
   * The only value.
   * @throws ShapeError unless the tensor has one element
   */
  async item(): Promise<number> {
    if (this.size !== 1) {
      throw new ShapeError({ operation: 'item', argument: 'tensor', expected: 'one element', got: formatShape(this.shape) });
    }
    return (await this.exactData())[0] ?? NaN;
  }

  /**
   * Overwrites the values, in stream order.
   * @throws ArgumentError when `values` has another length, or the tensor has gaps between its rows
   * @throws DTypeError when the tensor is a packed weight
   */
  write(values: ArrayLike<number>): void {
    this.#expectNumbers('write');
    const { backend, buffer } = this.#live();
    if (!this.dense) {
      const [argument, expected, got] = ['tensor', 'a dense one', `${formatShape(this.shape)} with gaps between its rows`];
      throw new ArgumentError({ operation: 'write', argument, expected, got });
    }
    const expected = `${this.size} numbers for shape ${formatShape(this.shape)}`;
    checkValues('write', values, { dtype: this.dtype, size: this.size, expected });
    backend.write(this.view, values);
    if (this.dtype === 'i32') noteHostValues(buffer, this.size === buffer.size ? values : undefined);
    this.written();
  }

  /** A second handle on the same values, with the same gradient identity. Both must be disposed. */
  retain(): Tensor<D> {
    return new Tensor(this.#live().share(), this.shape, this.#offset, this.pitch, this.id);
  }

  /** Whether no other handle has this memory, so that it may be written to without anybody seeing. */
  get exclusive(): boolean {
    return !this.#live().shared;
  }

  /**
   * The same memory in another shape, without a gradient: `reshape` is the operation.
   * @param start first element of the view, counted from this tensor's first
   * @throws DTypeError when this is a packed weight, which has no parts
   * @throws ShapeError when the view would reach beyond this tensor's memory
   */
  aliased(shape: Shape, start = 0, pitch = shape.at(-1) ?? 1): Tensor<D> {
    this.#expectNumbers('view');
    const own = checkedShape('view', shape);
    const storage = this.#live();
    const end = start + spannedBy(sizeOf(own.slice(0, -1)), own.at(-1) ?? 1, pitch);
    const inside = Number.isInteger(start) && start >= 0 && Number.isInteger(pitch) && pitch >= 0 && (sizeOf(own) === 0 || end <= this.view.size);
    if (inside) return new Tensor(storage.share(), own, this.#offset + start, pitch);
    throw new ShapeError({
      operation: 'view',
      argument: 'shape',
      expected: `within the ${this.view.size} elements that ${formatShape(this.shape)} covers`,
      got: `${formatShape(own)} from element ${start} on, rows ${pitch} apart`,
    });
  }

  /** Frees the handle; the memory goes with its last handle. Harmless when repeated. */
  dispose(): void {
    Tensor.currentScope?.delete(this);
    this.#storage?.drop();
    this.#storage = null;
  }

  [disposeSymbol](): void {
    this.dispose();
  }

  /** `Tensor f32 [2,3] on cpu` */
  toString(): string {
    return `Tensor ${this.dtype} ${formatShape(this.shape)}${this.#storage === null ? ', disposed' : ` on ${this.#storage.backend.kind}`}`;
  }

  [inspectSymbol](): string {
    return this.toString();
  }

  /** What a view holds, but for what lies between its rows. */
  #withoutGaps<T extends HostArray | Float64Array>(values: T): T {
    const { rows, columns, pitch, dense } = this;
    if (dense) return values;
    const packed = values.slice(0, rows * columns) as T;
    for (let row = 0; row < rows; row++) packed.set(values.subarray(row * pitch, row * pitch + columns), row * columns);
    return packed;
  }

  #expectNumbers(operation: string): void {
    if (!isPacked(this.dtype)) return;
    throw new DTypeError({
      operation,
      argument: 'tensor',
      expected: 'f32 or i32',
      got: `${this.dtype}, a packed weight, which is used whole`,
      hint: 'unpackWeight gives its values as f32',
    });
  }

  #live(): Storage {
    if (this.#storage === null) {
      throw new DisposedError(
        `tensor ${formatShape(this.shape)} was used after it was freed. Hint: return it from its scope(), or keep() it`,
      );
    }
    return this.#storage;
  }
}

/** Whether this is a tensor, of whatever dtype. */
export const isTensor = (value: unknown): value is Tensor => value instanceof Tensor;
