import { normal, type OperationCase } from '../cases.js';
import { rmsNormLinear } from './norm-linear.js';

// Not differentiable: for decoding.
export const cases: readonly OperationCase[] = ([[1, 1, 1], [2, 37, 19], [1, 768, 40], [4, 300, 5], [5, 64, 33], [20, 1536, 24]] as const).flatMap(
  ([rows, columns, outputs]) =>
    [true, false].map((withResidual): OperationCase => ({
      name: `x [${rows},${columns}] to ${outputs}, ${withResidual ? 'with' : 'without'} residual`,
      inputs: (random) => ({
        x: normal(random, [rows, columns]),
        residual: normal(random, [rows, columns], 2),
        normWeight: normal(random, [columns], 0.5, 1),
        weight: normal(random, [outputs, columns], columns ** -0.5),
      }),
      run(input) {
        const residual = withResidual ? input('residual') : null;
        const result = rmsNormLinear(input('x'), input('normWeight'), input('weight'), { residual });
        return [result.y, result.residual];
      },
      differentiable: [],
      half: ['x', 'weight'],
      reductionLength: columns,
    })),
);
