import { platform } from '#platform';
import { packagedModel, packagedModels } from '../models/index.js';

/** What an argument that names a model may be. */
export const modelArgument = `folder of a Mamba checkpoint (official or transformers) or of a training run, or a model of the package: ${packagedModels.join(', ')}`;

/** The folder that `model` names: itself where there is one, else that of the package's model of this name. */
export async function modelFolder(model: string): Promise<string> {
  const name = packagedModels.find((one) => one === model);
  return name === undefined || (await platform.pathKind(model)) !== undefined ? model : packagedModel(name);
}
