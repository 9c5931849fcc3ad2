/** Finding what a misspelt name was meant to be. */

/**
 * The candidate that `name` is most like: at most a third of its letters (and two at most) left out, put in, changed or
 * swapped with a neighbour. Case counts for nothing.
 */
export function nearest(name: string, candidates: Iterable<string>): string | undefined {
  let limit = Math.min(2, Math.floor(name.length / 3));
  let found: string | undefined;
  for (const candidate of candidates) {
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase(), limit);
    if (distance > limit) continue;
    found = candidate;
    limit = distance - 1;
    if (limit < 0) break;
  }
  return found;
}

/** `. Hint: did you mean 'stories'?`, to be put after a message; empty where nothing is like `name`. */
export function didYouMean(name: string, candidates: Iterable<string>): string {
  const found = nearest(name, candidates);
  return found === undefined ? '' : `. Hint: did you mean '${found}'?`;
}

/**
 * Optimal string alignment distance (Damerau 1964, each neighbour swapped once): what it takes to make `a` of `b`.
 * @returns the distance, or some number above `limit` where it is above
 */
function editDistance(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) > limit) return limit + 1;
  let before: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let least = Math.min((last[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, (last[j - 1] ?? 0) + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) least = Math.min(least, (before[j - 2] ?? 0) + 1);
      row.push(least);
    }
    if (Math.min(...row) > limit) return limit + 1;
    [before, last] = [last, row];
  }
  return last[b.length] ?? 0;
}
