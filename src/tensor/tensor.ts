import { ArgumentError, describeProblem, DisposedError, DTypeError, ShapeError } from '../util/errors.js';
import type { Backend, BufferView, DeviceBuffer } from './backend.js';
import { isPacked, type DType, type HostArray } from './dtype.js';
import { formatShape, sizeOf, type Shape } from './shape.js';

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

  drop(): void {
    if (--this.#users === 0) this.backend.release(this.buffer);
  }
}

let nextId = 1;

/**
 * A typed array of some shape in a backend's memory.
 *
 * Rows (the last axis) are contiguous; consecutive rows are `pitch` elements apart, so that a part of the last axis can be
 * a tensor without a copy (`narrow`). Everything else is dense, outermost axis first.
 */
export class Tensor {
  /** The scope that owns new tensors; set by `scope()`. */
  static currentScope: Set<Tensor> | null = null;

  readonly shape: Shape;
  readonly dtype: DType;
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
    this.dtype = storage.buffer.dtype;
    this.#offset = offset;
    this.pitch = pitch;
    this.id = id;
    Tensor.currentScope?.add(this);
  }

  /** A tensor over a whole buffer, which it then owns. */
  static over(backend: Backend, buffer: DeviceBuffer, shape: Shape): Tensor {
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
    const { rows, columns } = this;
    return { buffer, offset: this.#offset, size: rows === 0 || columns === 0 ? 0 : (rows - 1) * this.pitch + columns };
  }

  /**
   * The values, dense, after everything launched so far: Float32Array (Float64Array from the reference backend),
   * Int32Array, or the bytes of a packed weight as Uint8Array.
   * @param into what an earlier `data` of this tensor gave: may be filled and returned, which saves making an array
   */
  async data(into?: HostArray): Promise<HostArray> {
    const { rows, columns, pitch, dense } = this;
    const values = await this.#live().backend.read(this.view, dense ? into : undefined);
    if (dense) return values;
    const packed = values.slice(0, rows * columns);
    for (let row = 0; row < rows; row++) packed.set(values.subarray(row * pitch, row * pitch + columns), row * columns);
    return packed;
  }

  /**
   * The only value.
   * @throws ShapeError unless the tensor has one element
   */
  async item(): Promise<number> {
    if (this.size !== 1) {
      throw new ShapeError(
        describeProblem({ operation: 'item', argument: 'tensor', expected: 'one element', got: formatShape(this.shape) }),
      );
    }
    return (await this.data())[0] ?? NaN;
  }

  /**
   * Overwrites the values, in stream order.
   * @throws ArgumentError when `values` has another length, or the tensor has gaps between its rows
   * @throws DTypeError when the tensor is a packed weight
   */
  write(values: ArrayLike<number>): void {
    this.#expectNumbers('write');
    if (values.length !== this.size || !this.dense) {
      throw new ArgumentError(
        describeProblem({
          operation: 'write',
          argument: 'values',
          expected: `${String(this.size)} numbers for a dense tensor ${formatShape(this.shape)}`,
          got: `${String(values.length)} numbers${this.dense ? '' : ' for a tensor with gaps between its rows'}`,
        }),
      );
    }
    this.#live().backend.write(this.view, values);
    this.written();
  }

  /** A second handle on the same values, with the same gradient identity. Both must be disposed. */
  retain(): Tensor {
    return new Tensor(this.#live().share(), this.shape, this.#offset, this.pitch, this.id);
  }

  /**
   * The same memory in another shape, without a gradient: `reshape` is the operation.
   * @param start first element of the view, counted from this tensor's first
   * @throws DTypeError when this is a packed weight, which has no parts; extents are checked by callers
   */
  aliased(shape: Shape, start = 0, pitch = shape.at(-1) ?? 1): Tensor {
    this.#expectNumbers('view');
    return new Tensor(this.#live().share(), shape, this.#offset + start, pitch);
  }

  /** Frees the handle; the memory goes with its last handle. Harmless when repeated. */
  dispose(): void {
    Tensor.currentScope?.delete(this);
    this.#storage?.drop();
    this.#storage = null;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #expectNumbers(operation: string): void {
    if (!isPacked(this.dtype)) return;
    throw new DTypeError(
      describeProblem({
        operation,
        argument: 'tensor',
        expected: 'f32 or i32',
        got: `${this.dtype}, a packed weight, which is used whole`,
        hint: 'unpackWeight gives its values as f32',
      }),
    );
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
