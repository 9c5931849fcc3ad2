/**
 * The blocks of memory of a step that is being captured. What the step frees is for the step alone to use again: a block of the
 * pool may be in others' hands when the program is replayed.
 */
export class CapturedMemory<Block extends { readonly sizeBytes: number }> {
  readonly #blocks = new Set<Block>();
  readonly #freed = new Map<number, Block[]>();

  /** A block of this size that the step freed. */
  reuse(sizeBytes: number): Block | undefined {
    return this.#freed.get(sizeBytes)?.pop();
  }

  /** Notes a block as the step's. */
  add(block: Block): void {
    this.#blocks.add(block);
  }

  /** Keeps a block that the step frees; false where it is none of the step's. */
  keep(block: Block): boolean {
    if (!this.#blocks.has(block)) return false;
    const list = this.#freed.get(block.sizeBytes);
    if (list === undefined) this.#freed.set(block.sizeBytes, [block]);
    else list.push(block);
    return true;
  }

  /** Freed blocks: the program's at the end of the capture. */
  get freed(): Block[] {
    return [...this.#freed.values()].flat();
  }
}
