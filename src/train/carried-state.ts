import type { State } from '../models/index.js';

/** Lets the rows of a state begin anew in which a number is not finite, so that it reaches no later batch. */
export async function clearRowsNotFinite(state: State): Promise<void> {
  const { batch } = state;
  const bad = new Set<number>();
  const parts = [];
  for (const [, tensor] of state.named()) {
    if (tensor.size === 0) continue;
    const values = Float32Array.from(await tensor.data());
    const size = values.length / batch;
    for (let i = 0; i < values.length; i++) if (!Number.isFinite(values[i])) bad.add(Math.floor(i / size));
    parts.push({ tensor, values, size });
  }
  if (bad.size === 0) return;
  for (const { tensor, values, size } of parts) {
    for (const row of bad) values.fill(0, row * size, (row + 1) * size);
    tensor.write(values);
  }
}
