import { empty, expectShape, launch, operation, record, type FloatDType, type Tensor } from '../../tensor/index.js';
import { ArgumentError, describeValue } from '../../util/errors.js';
import { gateActivations, unaryNumber, type GateActivation } from './functions.js';
import * as kernels from './kernels.js';

/**
 * f(gate)·up, the middle of a gated linear unit: with 'silu', of SwiGLU; with 'gelu', of GEGLU (Shazeer 2020). One launch forward and
 * one backward, which keep `gate` and `up` alone.
 * @param gate any shape, f32 or f16; it and `up` may be parts (`split`) of one projection
 * @param up of the same shape
 * @param activation f
 * @returns the same shape
 * @throws ShapeError when the shapes differ; ArgumentError for an unknown activation
 */
export function gated(gate: Tensor, up: Tensor, activation: GateActivation): Tensor<FloatDType> {
  return operation('gated', { gate: [gate, 'float'], up: [up, 'float'] }, () => {
    expectShape('gated', 'up', up.shape, gate.shape, 'the shape of gate');
    if (!gateActivations.includes(activation)) {
      const expected = `one of ${gateActivations.map((name) => `'${name}'`).join(', ')}`;
      throw new ArgumentError({ operation: 'gated', argument: 'activation', expected, got: describeValue(activation) });
    }
    const y = empty(gate.backend, gate.shape, gate.dtype as FloatDType);
    const extents = { function: unaryNumber(activation), rows: gate.rows, columns: gate.columns };
    launch(kernels.gated, { gate, up, y }, { ...extents, gatePitch: gate.pitch, upPitch: up.pitch });
    record({
      operation: 'gated',
      inputs: [gate, up],
      outputs: [y],
      saved: { gate, up },
      backward({ cotangents: [dy], saved }) {
        if (!dy) return [null, null];
        const [dgate, dup] = [saved.gate, saved.up].map(({ backend, shape, dtype }) => empty(backend, shape, dtype)) as [Tensor, Tensor];
        const pitches = { gatePitch: saved.gate.pitch, upPitch: saved.up.pitch, dyPitch: dy.pitch };
        launch(kernels.gatedBackward, { gate: saved.gate, up: saved.up, dy, dgate, dup }, { ...extents, ...pitches });
        return [dgate, dup];
      },
    });
    return y;
  });
}
