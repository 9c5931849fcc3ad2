import { valueAndGradients } from '../../src/autograd/index.js';
import type { LanguageModel } from '../../src/models/index.js';
import { withoutScope, type Tensor } from '../../src/tensor/index.js';

/** A loss and its gradients by the model's parameters. */
export interface LossAndGradients {
  readonly loss: number;
  /** By key; without parameters that the loss does not depend on. */
  readonly gradients: ReadonlyMap<string, Float64Array>;
}

/** Works out the loss that `body` gives and its gradients by all parameters, and reads them. */
export async function lossAndGradients({ parameters }: LanguageModel, body: () => Tensor): Promise<LossAndGradients> {
  const { value, gradients } = withoutScope(() =>
    valueAndGradients(
      parameters.map(({ tensor }) => tensor),
      body,
    ),
  );
  const loss = await value.item();
  value.dispose();
  const found = new Map<string, Float64Array>();
  for (const [i, { key }] of parameters.entries()) {
    const gradient = gradients[i] ?? null;
    if (gradient === null) continue;
    found.set(key, await gradient.exactData());
    gradient.dispose();
  }
  return { loss, gradients: found };
}
