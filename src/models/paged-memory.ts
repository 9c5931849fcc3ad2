/** The slots of a state that have an entry for each position. */
import type { Places } from '../nn/index.js';
import { advance, beginsInto } from '../ops/attention/places.js';
import { pageLength } from '../ops/attention/reference.js';
import { copyInto } from '../ops/view/view.js';
import { empty, scope, sizeOf, tensor, withoutScope, type Backend, type Tensor } from '../tensor/index.js';
import type { PagePool } from './page-pool.js';
import { partsOf } from './slots.js';

/** Pages a sequence that a table has room for at first. */
const firstTable = 16;

/**
 * Which pages of a pool hold the positions of a state's sequences, and on the device how many positions there are. All sequences are at
 * the same position; documents within them may start at different ones.
 */
export class PagedMemory {
  readonly pool: PagePool;
  /** [B] i32, of each sequence the position at which its document starts. */
  readonly begins: Tensor<'i32'>;
  /** [B] i32 */
  readonly #positions: Tensor<'i32'>;
  /** [B,n] i32 */
  #table: Tensor<'i32'>;
  readonly #pages: number[][];
  readonly #backend: Backend;
  #documents = false;
  #generation = 0;

  /** At position 0. Its tensors belong to the current scope, but for the pool's. */
  constructor(pool: PagePool, backend: Backend, batch: number) {
    const zeros = new Int32Array(batch);
    this.pool = pool;
    this.begins = tensor(backend, zeros, [batch], 'i32');
    this.#positions = tensor(backend, zeros, [batch], 'i32');
    this.#table = tensor(backend, new Int32Array(batch * firstTable), [batch, firstTable], 'i32');
    this.#pages = Array.from({ length: batch }, () => []);
    this.#backend = backend;
  }

  /** Whether documents start at other positions than 0. */
  get documents(): boolean {
    return this.#documents;
  }

  /** Grows whenever a tensor that steps read has moved, or steps have to read one more. */
  get generation(): number {
    return this.#generation + this.pool.generation;
  }

  get places(): Places {
    return { positions: this.#positions, begins: this.#documents ? this.begins : undefined, pages: this.#table };
  }

  get tensors(): readonly Tensor[] {
    return [this.begins, this.#positions, this.#table];
  }

  get bytes(): { readonly own: number; readonly shared: number } {
    const pages = this.#pages.flat();
    const shared = pages.filter((page) => this.pool.shared(page)).length;
    return { own: (pages.length - shared) * this.pool.pageBytes, shared: shared * this.pool.pageBytes };
  }

  /** Makes sure that each sequence has pages of its own for `count` positions after `position`. */
  reserve(position: number, count: number): void {
    const [first, end] = [Math.floor(position / pageLength), Math.ceil((position + count) / pageLength)];
    const borrowed = this.#pages.filter((pages) => first < pages.length && this.pool.shared(pages[first] as number));
    const missing = this.#pages.reduce((sum, pages) => sum + Math.max(0, end - pages.length), 0);
    if (missing === 0 && (borrowed.length === 0 || count === 0)) return;
    this.pool.reserve(missing + borrowed.length);
    for (const pages of borrowed) {
      const [theirs, own] = [pages[first] as number, this.pool.take()];
      this.pool.copyPage(theirs, own);
      this.pool.drop(theirs);
      pages[first] = own;
    }
    for (const pages of this.#pages) while (pages.length < end) pages.push(this.pool.take());
    this.#writeTable();
  }

  /**
   * Where a pass over `length` positions reads and writes, for which `reserve` has made room. In a recorded pass that is a copy, since
   * gradient rules read it long after the state has gone on. The caller ends it, then closes it in any case.
   */
  pass(position: number, length: number, starts: Tensor | undefined, recorded: boolean) {
    if (starts !== undefined) this.#expectDocuments();
    const used = recorded ? this.#snapshot(position, length) : this;
    const batch = this.#pages.length;
    const marks = this.#documents
      ? { begins: empty(this.#backend, [batch, length], 'i32'), after: empty(this.#backend, [batch], 'i32') }
      : undefined;
    if (marks !== undefined) beginsInto({ starts: starts ?? null, positions: this.#positions, before: this.begins, ...marks });
    return {
      parts: used.pool.parts,
      places: { ...used.places, begins: marks?.begins },
      end: () => {
        if (used !== this) this.#copyPages(used, Math.floor(position / pageLength), Math.ceil((position + length) / pageLength));
        if (marks !== undefined) copyInto(marks.after, this.begins);
        advance(this.#positions, length);
      },
      close: () => {
        if (used !== this) used.dispose();
      },
    };
  }

  /** The device's count goes on by one. */
  advance(): void {
    advance(this.#positions, 1);
  }

  /** Takes over the first `position` positions of another state's sequences. Of the same pool, pages are shared. */
  assign(other: PagedMemory, position: number): void {
    const count = Math.ceil(position / pageLength);
    const theirs = other.#pages.map((pages) => pages.slice(0, count));
    if (other.pool === this.pool) {
      for (const page of theirs.flat()) this.pool.share(page);
      this.#dropFrom(0);
      for (const [b, pages] of theirs.entries()) this.#pages[b] = pages;
    } else {
      this.#dropFrom(0);
      this.reserve(0, position);
      this.#copyPages(other, 0, count);
    }
    if (other.#documents) this.#expectDocuments();
    if (this.#documents) copyInto(other.begins, this.begins);
    this.#setPosition(position);
    this.#writeTable();
  }

  truncate(position: number): void {
    this.#dropFrom(Math.ceil(position / pageLength));
    this.#setPosition(position);
  }

  /** The first `position` positions in order, [B, position, …slot], by `3.keys`. The caller disposes them. */
  gathered(position: number): [key: string, value: Tensor][] {
    const batch = this.#pages.length;
    return withoutScope(() => scope(() => {
      const all: Record<string, Tensor>[] = this.pool.parts.map(() => ({}));
      for (const [g, slot] of this.pool.slots.entries()) {
        const size = sizeOf(slot.shape);
        const shape = [batch, position, ...slot.shape];
        const group = empty(this.#backend, [slot.members.length, ...shape], slot.dtype);
        this.#eachPage(position, (b, start, count, page) => {
          const part = group.aliased([slot.members.length, count * size], (b * position + start) * size, sizeOf(shape));
          copyInto(this.pool.positionsOf(g, page, count), part);
        });
        partsOf(slot, group, shape, all);
      }
      return all.flatMap((memory, i) => Object.entries(memory).map(([name, value]): [string, Tensor] => [`${i}.${name}`, value]));
    }));
  }

  /** Takes what `gathered` gave, as host arrays by key. */
  fill(position: number, values: ReadonlyMap<string, Float32Array>, begins: readonly number[] | undefined): void {
    this.reserve(0, position);
    scope(() => {
      for (const [i, memory] of this.pool.parts.entries()) {
        for (const [name, part] of Object.entries(memory)) {
          const all = values.get(`${i}.${name}`) as Float32Array;
          const shape = part.shape.slice(2);
          const size = sizeOf(shape);
          this.#eachPage(position, (b, start, count, page) => {
            const from = (b * position + start) * size;
            part.aliased([count, ...shape], page * pageLength * size).write(all.subarray(from, from + count * size));
          });
        }
      }
    });
    if (begins !== undefined) {
      this.#expectDocuments();
      this.begins.write(begins);
    }
    this.#setPosition(position);
  }

  /** Gives the pages back, and frees what is not the pool's. */
  dispose(): void {
    this.#dropFrom(0);
    this.pool.leave();
    for (const made of this.tensors) made.dispose();
  }

  #eachPage(position: number, body: (b: number, start: number, count: number, page: number) => void): void {
    for (const [b, pages] of this.#pages.entries()) {
      for (let i = 0; i * pageLength < position; i++) body(b, i * pageLength, Math.min(pageLength, position - i * pageLength), pages[i] as number);
    }
  }

  /** A copy in a pool of its own. It belongs to the current scope, but for the pool. */
  #snapshot(position: number, length: number): PagedMemory {
    const copied = new PagedMemory(this.pool.like(), this.#backend, this.#pages.length);
    copied.assign(this, position);
    copied.reserve(position, length);
    return copied;
  }

  #copyPages(other: PagedMemory, from: number, to: number): void {
    for (const [b, pages] of this.#pages.entries()) {
      for (let i = from; i < to; i++) this.pool.copyPage(other.#pages[b]?.[i] as number, pages[i] as number, other.pool);
    }
  }

  #dropFrom(count: number): void {
    for (const pages of this.#pages) for (const page of pages.splice(count)) this.pool.drop(page);
  }

  #setPosition(position: number): void {
    this.#positions.write(new Int32Array(this.#pages.length).fill(position));
  }

  #expectDocuments(): void {
    if (this.#documents) return;
    this.#documents = true;
    this.#generation++;
  }

  #writeTable(): void {
    const batch = this.#pages.length;
    const longest = Math.max(0, ...this.#pages.map(({ length }) => length));
    let { columns } = this.#table;
    if (longest > columns) {
      while (columns < longest) columns *= 2;
      this.#table.dispose();
      this.#table = withoutScope(() => empty(this.#backend, [batch, columns], 'i32'));
      this.#generation++;
    }
    const rows = new Int32Array(batch * columns);
    for (const [b, pages] of this.#pages.entries()) rows.set(pages, b * columns);
    this.#table.write(rows);
  }
}
