/** The memory of mixers by name and shape, as states hold it. */
import { fill } from '../backend/memory/kernels.js';
import type { Memory, Slot } from '../nn/index.js';
import { copyInto } from '../ops/view/view.js';
import { empty, formatShape, launch, sizeOf, type Backend, type FloatDType, type Shape, type Tensor } from '../tensor/index.js';

/** What each mixer of a model remembers of a sequence. */
export type Layout = readonly Readonly<Record<string, Slot>>[];

/** Slots of one name and shape. */
export interface SlotGroup {
  readonly name: string;
  readonly shape: Shape;
  readonly perPosition: boolean;
  /** Of what there is for each position; what has a fixed size is float32. */
  readonly dtype: FloatDType;
  /** The mixers that have them. */
  readonly members: readonly number[];
}

/** @param cacheDType of slots with an entry for each position */
export function groupsOf(layout: Layout, cacheDType: FloatDType): SlotGroup[] {
  const groups = new Map<string, SlotGroup & { members: number[] }>();
  for (const [i, slots] of layout.entries()) {
    for (const [name, { shape, perPosition = false }] of Object.entries(slots)) {
      const key = `${name} ${formatShape(shape)}${perPosition ? ' a position' : ''}`;
      const group = groups.get(key) ?? { name, shape, perPosition, dtype: perPosition ? cacheDType : 'f32', members: [] };
      group.members.push(i);
      groups.set(key, group);
    }
  }
  return [...groups.values()];
}

/** `24 × conv [3,1536], 24 × ssm [1536,16]`; slots with one for each position have `[n,…]`. */
export const describeGroups = (groups: readonly SlotGroup[]): string =>
  groups.map(({ name, shape, perPosition, members }) => `${members.length} × ${name} ${formatShape(perPosition ? ['n', ...shape] : shape)}`).join(', ');

/** The parts of a group's memory by mixer: handles, for the caller to dispose. @param group [members, …shape] */
export function partsOf({ name, members }: SlotGroup, group: Tensor, shape: Shape, into: Record<string, Tensor>[]): void {
  for (const [i, member] of members.entries()) (into[member] as Record<string, Tensor>)[name] = group.aliased(shape, i * sizeOf(shape));
}

/**
 * Slots of a fixed size, for a number of sequences. Slots of one name and shape lie together, [mixers, B, …slot]: a copy is one
 * launch for all.
 */
export class SlotMemory {
  /** By mixer: [B, …slot]. */
  readonly parts: readonly Memory[];
  readonly #groups: readonly Tensor<'f32'>[];

  /** Values are undefined. It belongs to the current scope. */
  constructor(
    readonly backend: Backend,
    readonly slots: readonly SlotGroup[],
    readonly batch: number,
    readonly mixers: number,
  ) {
    const parts = Array.from({ length: mixers }, (): Record<string, Tensor> => ({}));
    this.#groups = slots.map((slot) => {
      const shape = [batch, ...slot.shape];
      const group = empty(backend, [slot.members.length, ...shape], 'f32');
      partsOf(slot, group, shape, parts);
      return group;
    });
    this.parts = parts;
  }

  /** Memory of the same sizes, with undefined values. It belongs to the current scope. */
  like(): SlotMemory {
    return new SlotMemory(this.backend, this.slots, this.batch, this.mixers);
  }

  clear(): void {
    for (const values of this.#groups) if (values.size > 0) launch(fill, { values }, { value: 0, count: values.size });
  }

  /** Takes over the values; this memory stays where it is. */
  assign(other: SlotMemory): void {
    for (const [i, group] of this.#groups.entries()) if (group.size > 0) copyInto(other.#groups[i] as Tensor, group);
  }

  get bytes(): number {
    return 4 * this.#groups.reduce((sum, { size }) => sum + size, 0);
  }

  get tensors(): readonly Tensor[] {
    return [...this.parts.flatMap((memory) => Object.values(memory)), ...this.#groups];
  }
}
