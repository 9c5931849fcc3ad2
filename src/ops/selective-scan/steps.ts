import { expectShape, expectTensors, type Tensor } from '../../tensor/index.js';
import { add, multiply, softplus } from '../elementwise/elementwise.js';
import { reshape } from '../view/view.js';
import type { ScanOptions } from './arguments.js';

/**
 * Δ of a scan whose positions are some `steps` apart, and the options of the scan that takes it as it is.
 * @param symbols of `steps`
 * @throws ShapeError, DTypeError, ArgumentError
 */
export function scaledByTime<O extends ScanOptions>(operation: string, delta: Tensor, steps: Tensor, options: O, symbols: '[B,L]' | '[B]'): { delta: Tensor; options: O } {
  const { deltaBias = null, deltaSoftplus = false } = options;
  expectTensors(operation, { delta: [delta, 'float'], steps: [steps, 'f32'], deltaBias: [deltaBias, 'f32?'] });
  const outer = delta.shape.slice(0, -1);
  expectShape(operation, 'steps', steps.shape, outer, symbols);
  if (deltaBias) expectShape(operation, 'deltaBias', deltaBias.shape, [delta.columns], '[E]');
  const raw = deltaBias ? add(delta, deltaBias) : delta;
  const scaled = multiply(deltaSoftplus ? softplus(raw) : raw, reshape(steps, [...outer, 1]));
  return { delta: scaled, options: { ...options, steps: null, deltaBias: null, deltaSoftplus: false } };
}
