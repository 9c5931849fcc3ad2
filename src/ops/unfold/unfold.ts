import { empty, expectRank, formatShape, launch, operation, record, type FloatDType, type Tensor } from '../../tensor/index.js';
import { ArgumentError, describeValue, ShapeError } from '../../util/errors.js';
import { gridOf } from './grid.js';
import * as kernels from './kernels.js';

/**
 * The patches of images, row by row, each as one row of numbers: a linear layer of them is a convolution whose weight [D,C,P,P] is read as [D,C·P·P].
 * Patches overlap where the stride is below P; pixels at the right and at the bottom that no whole patch reaches are left out.
 * @param x [B,C,H,W] f32 or f16
 * @param options.patch P: pixels along each side
 * @param options.stride pixels from one patch to the next; default P
 * @returns [B,M,C·P·P] of x's dtype, M = (⌊(H−P)/stride⌋ + 1)·(⌊(W−P)/stride⌋ + 1)
 * @throws ArgumentError when patch or stride is no integer ≥ 1; ShapeError when an image is smaller than a patch
 *
 * Source: PyTorch's `nn.Unfold`, whose result has the last two axes the other way round.
 */
export function unfold(x: Tensor, { patch, stride = patch }: { readonly patch: number; readonly stride?: number | undefined }): Tensor<FloatDType> {
  return operation('unfold', { x: [x, 'float'] }, () => {
    expectRank('unfold', 'x', x.shape, 4, '[B,C,H,W]');
    for (const [argument, value] of Object.entries({ patch, stride })) {
      if (Number.isInteger(value) && value >= 1) continue;
      throw new ArgumentError({ operation: 'unfold', argument, expected: 'an integer ≥ 1', got: describeValue(value) });
    }
    const [batch = 0, channels = 0, height = 0, width = 0] = x.shape;
    if (height < patch || width < patch) {
      throw new ShapeError({ operation: 'unfold', argument: 'x', expected: `images of at least ${patch} × ${patch} pixels`, got: formatShape(x.shape) });
    }
    const image = { channels, height, width, side: patch, stride };
    const [rows, columns] = gridOf(image);
    const y = empty(x.backend, [batch, rows * columns, channels * patch * patch], x.dtype as FloatDType);
    launch(kernels.unfold, { x, y }, { batch, ...image, xPitch: x.pitch, yPitch: y.pitch });
    record({
      operation: 'unfold',
      inputs: [x],
      outputs: [y],
      saved: {},
      backward({ cotangents: [dy] }) {
        if (!dy) return [null];
        const dx = empty(dy.backend, [batch, channels, height, width], x.dtype as FloatDType);
        launch(kernels.unfoldBackward, { dy, dx }, { batch, ...image, xPitch: width, yPitch: dy.pitch });
        return [dx];
      },
    });
    return y;
  });
}
