import { ArgumentError } from '../../util/errors.js';
import { empty, expectNumber, expectShape, formatShape, launch, operation, record, type Tensor } from '../../tensor/index.js';
import { contiguous } from '../view/view.js';
import { irfft as inverse, rfft as forward } from './kernels.js';
import { realPlan } from './plan.js';
import { rootsOfUnity, transformTables } from './tables.js';

/** What frequencies are multiplied by: those that are their own conjugates (`ends`), and the others. */
interface Weights {
  readonly interior: number;
  readonly ends: number;
}

function tablesAndPlan(x: Tensor, length: number, rows: number) {
  const { backend } = x;
  const plan = realPlan(length, rows);
  const { points, size, areas, workSize } = plan;
  return {
    tables: {
      ...transformTables(backend, plan),
      half: length % 2 === 0 ? rootsOfUnity(backend, points + 1, length) : null,
      work: empty(backend, [workSize]),
    },
    parameters: { rows, length, points, size, areas },
  };
}

function toSpectrum(x: Tensor, weights: Weights): Tensor<'f32'> {
  const spectrum = empty(x.backend, [...x.shape.slice(0, -1), Math.floor(x.columns / 2) + 1, 2], 'f32');
  const { tables, parameters } = tablesAndPlan(x, x.columns, x.rows);
  launch(forward, { x, spectrum, ...tables }, { ...parameters, xPitch: x.pitch, ...weights });
  return spectrum;
}

function fromSpectrum(spectrum: Tensor, length: number, weights: Weights): Tensor<'f32'> {
  const shape = [...spectrum.shape.slice(0, -2), length];
  const y = empty(spectrum.backend, shape, 'f32');
  const { tables, parameters } = tablesAndPlan(spectrum, length, y.rows);
  launch(inverse, { spectrum: contiguous(spectrum), y, ...tables }, { ...parameters, ...weights });
  return y;
}

/**
 * The discrete Fourier transform of real numbers: spectrum[k] = Σₜ x[t]·e^{−2πikt/L}, k = 0 … ⌊L/2⌋, as numpy.fft.rfft. Differentiable.
 * @param x [..., L] f32, any L ≥ 1
 * @returns [..., ⌊L/2⌋+1, 2] f32, real and imaginary parts
 * @throws ArgumentError
 */
export function rfft(x: Tensor): Tensor<'f32'> {
  return operation('rfft', { x: [x, 'f32'] }, () => {
    expectElements('rfft', 'x', x);
    const length = x.columns;
    const spectrum = toSpectrum(x, { interior: 1, ends: 1 });
    record({
      operation: 'rfft',
      inputs: [x],
      outputs: [spectrum],
      saved: {},
      backward: ({ cotangents: [d] }) => [d ? fromSpectrum(d, length, { interior: 1, ends: 1 }) : null],
    });
    return spectrum;
  });
}

/**
 * The inverse of `rfft`, as numpy.fft.irfft: y[t] = 1/L·Σₖ w_k·Re(spectrum[k]·e^{2πikt/L}), w_k = 1 for k = 0 and k = L/2, else 2. The
 * imaginary parts of those two count for nothing, and their gradients are 0. Differentiable.
 * @param spectrum [..., ⌊L/2⌋+1, 2] f32, real and imaginary parts
 * @param length L ≥ 1: of a spectrum of F numbers, 2F − 2 or 2F − 1
 * @returns [..., L] f32
 * @throws ShapeError, ArgumentError
 */
export function irfft(spectrum: Tensor, length: number): Tensor<'f32'> {
  return operation('irfft', { spectrum: [spectrum, 'f32'] }, () => {
    expectElements('irfft', 'spectrum', spectrum);
    expectNumber('irfft', 'length', length, (n) => Number.isInteger(n) && n >= 1, 'an integer ≥ 1');
    const frequencies = Math.floor(length / 2) + 1;
    const outer = spectrum.shape.slice(0, -2);
    expectShape('irfft', 'spectrum', spectrum.shape, [...outer, frequencies, 2], '[...,⌊L/2⌋+1,2]');
    const weights = { interior: 2 / length, ends: 1 / length };
    const y = fromSpectrum(spectrum, length, weights);
    record({
      operation: 'irfft',
      inputs: [spectrum],
      outputs: [y],
      saved: {},
      backward: ({ cotangents: [dy] }) => [dy ? toSpectrum(dy, weights) : null],
    });
    return y;
  });
}

function expectElements(operation: string, argument: string, { shape, size }: Tensor): void {
  if (shape.length > 0 && size > 0) return;
  throw new ArgumentError({ operation, argument, expected: 'at least one axis, and no extent of 0', got: formatShape(shape) });
}
