import { fill } from '../../src/backend/memory/kernels.js';
import type { LanguageModel } from '../../src/models/index.js';
import { linear } from '../../src/ops/index.js';
import { copyInto } from '../../src/ops/view/view.js';
import { empty, launch, record, type FloatDType, type Tensor } from '../../src/tensor/index.js';
import { mixerOf } from './models.js';

/** Where the numbers go bad: in the output of an operation, in the gradient of its input, or of a weight. */
export type PlantedFault = 'forward' | 'backward' | 'weight';

/**
 * Puts an operation `planted` behind the last projection of a block. It changes nothing until `when()`; then the first
 * `share` of what it makes is NaN.
 */
export function plant(model: LanguageModel, block: number, fault: PlantedFault, when: () => boolean, share = 1): void {
  const projection = mixerOf(model, block).outProj;
  projection.forward = (x) => {
    const bad = when();
    if (fault === 'weight') return linear(x, planted(projection.weight.tensor, 0, bad ? share : 0), projection.bias?.tensor);
    return planted(linear(x, projection.weight.tensor, projection.bias?.tensor), fault === 'forward' && bad ? share : 0, fault === 'backward' && bad ? share : 0);
  };
}

function planted(x: Tensor, forwardShare: number, backwardShare: number): Tensor<FloatDType> {
  const spoilt = (from: Tensor, share: number) => {
    const to = empty(from.backend, from.shape);
    copyInto(from, to);
    if (share > 0) launch(fill, { values: to }, { value: NaN, count: Math.round(share * to.size) });
    return to;
  };
  const y = spoilt(x, forwardShare);
  record({ operation: 'planted', inputs: [x], outputs: [y], saved: {}, backward: ({ cotangents: [dy] }) => [dy ? spoilt(dy, backwardShare) : null] });
  return y;
}
