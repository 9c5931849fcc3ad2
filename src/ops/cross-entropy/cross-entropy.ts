import { empty, expectIntegersIn, expectShape, isRecording, launch, operation, record, type Tensor } from '../../tensor/index.js';
import { contiguous } from '../view/view.js';
import * as kernels from './kernels.js';

/** The target of positions that the loss leaves out: padding, prompts, what lies across a document's boundary. */
export const ignoredTarget = -1;

/**
 * Throws where the host is known to have written a target that is neither −1 nor in [0, V).
 * @throws ArgumentError
 */
export function expectTargets(operation: string, targets: Tensor, vocabulary: number): void {
  expectIntegersIn(operation, 'targets', targets, { least: ignoredTarget, limit: vocabulary, symbols: '[−1, V)' });
}

/**
 * Mean over the targets other than −1 of −ln softmax(logits)[target]; 0 when there are none.
 *
 * Ignored rows have gradient 0. A target that is neither −1 nor in [0, V) cannot throw on a device: it makes the loss, and
 * its row of the gradient, NaN. Whoever holds the targets on the host checks them there.
 *
 * @param logits [...,V] f32 or f16, differentiable
 * @param targets [...] i32
 * @returns [] f32
 * @throws DTypeError when targets are not i32
 * @throws ShapeError when targets have not the shape of logits without its last axis
 */
export function crossEntropy(logits: Tensor, targets: Tensor): Tensor<'f32'> {
  return operation('crossEntropy', { logits: [logits, 'float'], targets: [targets, 'i32'] }, () => {
    expectShape('crossEntropy', 'targets', targets.shape, logits.shape.slice(0, -1), '[...] of logits [...,V]');
    expectTargets('crossEntropy', targets, logits.columns);
    const { backend, rows, columns } = logits;
    const extents = { rows, columns, logitsPitch: logits.pitch };
    const dense = contiguous(targets);
    const scale = empty(backend, [1]);
    launch(kernels.countedScale, { targets: dense, scale }, { count: rows });
    const losses = empty(backend, [rows]);
    const normalisers = isRecording() ? empty(backend, [rows, 2]) : null;
    launch(kernels.tokenLosses, { logits, targets: dense, losses, normalisers }, extents);
    const loss = empty(backend, [], 'f32');
    launch(kernels.scaledSum, { values: losses, scale, total: loss }, { count: rows });
    if (normalisers === null) return loss;
    record({
      operation: 'crossEntropy',
      inputs: [logits],
      outputs: [loss],
      saved: { logits, targets: dense, normalisers, scale },
      backward({ cotangents: [upstream], saved }) {
        if (!upstream) return [null];
        const dlogits = empty(upstream.backend, saved.logits.shape, saved.logits.dtype);
        launch(kernels.tokenLossesBackward, { ...saved, upstream, dlogits }, extents);
        return [dlogits];
      },
    });
    return loss;
  });
}

/**
 * The losses −ln softmax(logits)[target] of each token, for evaluation: not differentiable.
 * @param logits [...,V] f32 or f16
 * @param targets [...] i32; the loss of −1 is 0
 * @returns [...]
 * @throws DTypeError, ShapeError as `crossEntropy`
 */
export function logitLosses(logits: Tensor, targets: Tensor): Tensor<'f32'> {
  return operation('logitLosses', { logits: [logits, 'float'], targets: [targets, 'i32'] }, () => {
    expectShape('logitLosses', 'targets', targets.shape, logits.shape.slice(0, -1), '[...] of logits [...,V]');
    expectTargets('logitLosses', targets, logits.columns);
    const { backend, rows, columns } = logits;
    const losses = empty(backend, targets.shape, 'f32');
    launch(kernels.tokenLosses, { logits, targets: contiguous(targets), losses }, { rows, columns, logitsPitch: logits.pitch });
    return losses;
  });
}
