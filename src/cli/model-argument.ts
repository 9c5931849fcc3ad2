import { platform } from '#platform';
import { packagedModel, packagedModels } from '../models/index.js';
import { ArgumentError } from '../util/errors.js';
import { didYouMean } from '../util/nearest.js';

/** What an argument that names a model may be. */
export const modelArgument = `folder of a checkpoint (of transformers, or Mamba’s official one) or of a training run, or a model of the package: ${packagedModels.join(', ')}`;

/**
 * The folder that `model` names: itself where there is one, else that of the package's model of this name.
 * @throws ArgumentError where there is neither, and the name is almost that of a model of the package
 */
export async function modelFolder(model: string): Promise<string> {
  if ((await platform.pathKind(model)) !== undefined) return model;
  const name = packagedModels.find((one) => one === model);
  if (name !== undefined) return packagedModel(name);
  const hint = didYouMean(model, packagedModels);
  if (hint !== '') throw new ArgumentError(`${model}: no such file or folder${hint}`);
  return model;
}
