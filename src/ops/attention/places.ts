import { launch, type Tensor } from '../../tensor/index.js';
import * as kernels from './kernels.js';

/**
 * Writes where the document of each position of a pass starts. Not recorded.
 * @param places.starts [B,L] i32, nonzero where a document starts; null: no document starts in the pass
 * @param places.positions [B] i32, how many positions came before
 * @param places.before [B] i32, where the document of the position before the pass starts
 * @param places.begins gets it, [B,L] i32
 * @param places.after [B] i32, gets that of the last position
 */
export function beginsInto(places: { readonly starts: Tensor | null; readonly positions: Tensor; readonly before: Tensor; readonly begins: Tensor; readonly after: Tensor }): void {
  const { rows: batch, columns: length } = places.begins;
  launch(kernels.documentBegins, places, { batch, length, startsPitch: places.starts?.pitch ?? 0 });
}

/** positions += by, in place. @param positions [B] i32 */
export function advance(positions: Tensor, by: number): void {
  launch(kernels.advance, { positions }, { count: positions.size, by });
}
