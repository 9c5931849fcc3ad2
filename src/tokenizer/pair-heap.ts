/** Pairs of symbols by how often they occur: the most frequent first, of equals the one with the lower key. */
export class PairHeap {
  readonly #counts: number[] = [];
  readonly #keys: number[] = [];

  push(count: number, key: number): void {
    let at = this.#counts.length;
    this.#counts.push(count);
    this.#keys.push(key);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.#before(at, parent)) return;
      this.#swap(at, parent);
      at = parent;
    }
  }

  pop(): { readonly count: number; readonly key: number } | undefined {
    const [count, key] = [this.#counts[0], this.#keys[0]];
    if (count === undefined || key === undefined) return undefined;
    const last = this.#counts.length - 1;
    this.#swap(0, last);
    this.#counts.length = this.#keys.length = last;
    for (let at = 0; ; ) {
      let first = at;
      for (const child of [2 * at + 1, 2 * at + 2]) if (child < last && this.#before(child, first)) first = child;
      if (first === at) return { count, key };
      this.#swap(at, first);
      at = first;
    }
  }

  #before(a: number, b: number): boolean {
    const difference = (this.#counts[a] as number) - (this.#counts[b] as number);
    return difference > 0 || (difference === 0 && (this.#keys[a] as number) < (this.#keys[b] as number));
  }

  #swap(a: number, b: number): void {
    for (const values of [this.#counts, this.#keys]) [values[a], values[b]] = [values[b] as number, values[a] as number];
  }
}
