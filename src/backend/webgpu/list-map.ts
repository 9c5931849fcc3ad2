interface Entry<V> {
  readonly list: readonly number[];
  readonly value: V;
}

/** A map from lists of integers. Looking one up makes no string of it, which would cost more than what is looked up. */
export class ListMap<V> {
  readonly #byHash = new Map<number, Entry<V>[]>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get(list: readonly number[]): V | undefined {
    return this.#byHash.get(hash(list))?.find((entry) => equal(entry.list, list))?.value;
  }

  /** Adds a list that is not there yet. */
  add(list: readonly number[], value: V): void {
    const key = hash(list);
    const entries = this.#byHash.get(key);
    if (entries === undefined) this.#byHash.set(key, [{ list, value }]);
    else entries.push({ list, value });
    this.#size++;
  }

  clear(): void {
    this.#byHash.clear();
    this.#size = 0;
  }
}

function hash(list: readonly number[]): number {
  let hashed = list.length;
  for (const number of list) {
    hashed = Math.imul(hashed ^ number, 0x9e3779b1);
    hashed ^= hashed >>> 15;
  }
  return hashed;
}

function equal(a: readonly number[], b: readonly number[]): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
