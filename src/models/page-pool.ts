/** Memory for slots with an entry for each position. */
import type { Memory } from '../nn/index.js';
import { pageLength } from '../ops/attention/reference.js';
import { copyInto } from '../ops/view/view.js';
import { empty, itemSize, keep, scope, sizeOf, withoutScope, type Backend, type Tensor } from '../tensor/index.js';
import { partsOf, type SlotGroup } from './slots.js';

/**
 * Pages of 64 positions. A page belongs to all mixers at once, and a state shares pages with its copies. A page counts the states that
 * refer to it. A state copies a shared page before it writes to it. Where no page is free, the pool moves to larger memory, and
 * `generation` grows.
 */
export class PagePool {
  /** Grows whenever the pool has moved. */
  generation = 0;
  readonly slots: readonly SlotGroup[];
  readonly #backend: Backend;
  readonly #mixers: number;
  /** [members, pages, 64, …slot] */
  #groups: readonly Tensor[] = [];
  #parts: readonly Memory[] = [];
  /** Of each page, how often states refer to it. */
  readonly #users: number[] = [];
  readonly #free: number[] = [];
  #states = 1;

  constructor(backend: Backend, slots: readonly SlotGroup[], mixers: number) {
    this.#backend = backend;
    this.slots = slots;
    this.#mixers = mixers;
    this.#resize(1);
  }

  /** By mixer: [pages, 64, …slot]. */
  get parts(): readonly Memory[] {
    return this.#parts;
  }

  /** Bytes of a page. */
  get pageBytes(): number {
    return pageBytes(this.slots);
  }

  /** Makes sure that `count` pages are free. */
  reserve(count: number): void {
    const missing = count - this.#free.length;
    // Half as many again: a sequence that grows page by page moves a few times only.
    if (missing > 0) this.#resize(this.#users.length + Math.max(missing, Math.ceil(this.#users.length / 2)));
  }

  /** A page for one state. */
  take(): number {
    this.reserve(1);
    const page = this.#free.pop() as number;
    this.#users[page] = 1;
    return page;
  }

  share(page: number): void {
    this.#users[page] = (this.#users[page] ?? 0) + 1;
  }

  drop(page: number): void {
    const users = (this.#users[page] ?? 0) - 1;
    this.#users[page] = users;
    if (users === 0) this.#free.push(page);
  }

  shared(page: number): boolean {
    return (this.#users[page] ?? 0) > 1;
  }

  /** Copies a page of another pool, or of this one. */
  copyPage(from: number, to: number, other: PagePool = this): void {
    scope(() => {
      for (const [i, slot] of this.slots.entries()) copyInto(other.#pages(i, from, slot), this.#pages(i, to, slot));
    });
  }

  /** The first `count` positions of a page in a group, [members, count·slot]; a handle in the current scope. */
  positionsOf(group: number, page: number, count: number): Tensor {
    return this.#pages(group, page, this.slots[group] as SlotGroup, count);
  }

  /** An empty pool for the same slots. */
  like(): PagePool {
    return new PagePool(this.#backend, this.slots, this.#mixers);
  }

  /** One state more has pages here. */
  join(): this {
    this.#states++;
    return this;
  }

  /** One state fewer; the last one's leaving frees the memory. */
  leave(): void {
    if (--this.#states === 0) this.#release();
  }

  #pages(group: number, page: number, { shape, members }: SlotGroup, count = pageLength): Tensor {
    const memory = this.#groups[group] as Tensor;
    const size = pageLength * sizeOf(shape);
    return memory.aliased([members.length, count * sizeOf(shape)], page * size, this.#users.length * size);
  }

  #resize(pages: number): void {
    const old = this.#users.length;
    const groups = withoutScope(() =>
      scope(() => this.slots.map(({ members, shape, dtype }) => empty(this.#backend, [members.length, pages, pageLength, ...shape], dtype))),
    );
    scope(() => {
      for (const [i, { members, shape }] of this.slots.entries()) {
        const [size, count] = [pageLength * sizeOf(shape), members.length];
        if (old === 0 || size === 0) continue;
        const before = (this.#groups[i] as Tensor).aliased([count, old * size]);
        copyInto(before, (groups[i] as Tensor).aliased([count, old * size], 0, pages * size));
      }
    });
    this.#release();
    const parts = Array.from({ length: this.#mixers }, (): Record<string, Tensor> => ({}));
    withoutScope(() => {
      for (const [i, slot] of this.slots.entries()) partsOf(slot, groups[i] as Tensor, [pages, pageLength, ...slot.shape], parts);
    });
    this.#groups = groups.map(keep);
    this.#parts = parts;
    for (let page = pages - 1; page >= old; page--) {
      this.#users[page] = 0;
      this.#free.push(page);
    }
    this.generation++;
  }

  #release(): void {
    for (const memory of this.#parts) for (const part of Object.values(memory)) part.dispose();
    for (const group of this.#groups) group.dispose();
  }
}

/** Bytes that a page takes in slots of these groups. */
export const pageBytes = (slots: readonly SlotGroup[]): number =>
  pageLength * slots.reduce((sum, { shape, dtype, members }) => sum + itemSize[dtype] * members.length * sizeOf(shape), 0);
