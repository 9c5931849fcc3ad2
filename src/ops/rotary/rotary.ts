import { empty, expectRank, expectShape, formatShape, launch, operation, record, tensor, type Backend, type FloatDType, type Tensor } from '../../tensor/index.js';
import { ArgumentError, ShapeError } from '../../util/errors.js';
import { frequencyTable, levels } from './frequencies.js';
import * as kernels from './kernels.js';

/** Options of `rotary`. */
export interface RotaryOptions {
  /** [B] i32, how many positions came before x; default: none. Positions are below 2²⁴. */
  readonly positions?: Tensor | null | undefined;
  /** Whether a pair is (2i, 2i + 1), as in RoFormer and GPT-J; default: (i, i + R/2), as in GPT-NeoX and Llama. */
  readonly interleaved?: boolean | undefined;
}

/**
 * The table that `rotary` takes.
 * @param frequencies radians a position of each pair, R/2 of them: usually base^(−2i/R)
 * @returns [4, 2, R/2] f32
 * @throws ArgumentError when a frequency is not finite
 */
export function rotaryTable(backend: Backend, frequencies: readonly number[]): Tensor<'f32'> {
  const wrong = frequencies.findIndex((frequency) => !Number.isFinite(frequency));
  if (wrong >= 0 || frequencies.length === 0) {
    const argument = wrong < 0 ? 'frequencies' : `frequencies[${wrong}]`;
    throw new ArgumentError({ operation: 'rotaryTable', argument, expected: 'finite numbers, one at least', got: String(frequencies[wrong]) });
  }
  return tensor(backend, frequencyTable(frequencies), [levels, 2, frequencies.length]);
}

/**
 * Rotary position embedding: turns pairs of each head's numbers by an angle in proportion to the position, so that products of
 * queries and keys depend on their distance alone. Of a head's P numbers the first R are turned, R twice the number of pairs in the
 * table; the others stay. Angles are exact for any position, to 10⁻⁶ radians.
 * @param x [B,L,H,P] f32 or f16
 * @param table what `rotaryTable` gives; not differentiated
 * @returns [B,L,H,P] of x's dtype
 * @throws ShapeError
 *
 * Source: Su et al., "RoFormer" (2021), section 3.2.2, equation 34.
 */
export function rotary(x: Tensor, table: Tensor, { positions = null, interleaved = false }: RotaryOptions = {}): Tensor<FloatDType> {
  return operation('rotary', { x: [x, 'float'], table: [table, 'f32'], positions: [positions, 'i32?'] }, () => {
    expectRank('rotary', 'x', x.shape, 4, '[B,L,H,P]');
    const [batch = 0, length = 0, heads = 0, size = 0] = x.shape;
    const turned = 2 * table.columns;
    if (table.rank !== 3 || table.rows !== 2 * levels || turned > size || !table.dense) {
      const expected = `[${levels},2,R/2] with R ≤ P = ${size}, as rotaryTable gives it`;
      throw new ShapeError({ operation: 'rotary', argument: 'table', expected, got: formatShape(table.shape) });
    }
    if (positions) expectShape('rotary', 'positions', positions.shape, [batch], '[B]');
    const turn = (from: Tensor, backwards: boolean, places: Tensor | null, frequencies: Tensor): Tensor<FloatDType> => {
      const y = empty(from.backend, [batch, length, heads, size], from.dtype as FloatDType);
      const extents = { batch, length, heads, size, rotary: turned, xPitch: from.pitch, backwards, interleaved };
      launch(kernels.rotary, { x: from, frequencies, positions: places, y }, extents);
      return y;
    };
    const y = turn(x, false, positions, table);
    record({
      operation: 'rotary',
      inputs: [x],
      outputs: [y],
      saved: { positions, table },
      backward: ({ cotangents: [dy], saved }) => [dy ? turn(dy, true, saved.positions, saved.table) : null],
    });
    return y;
  });
}
