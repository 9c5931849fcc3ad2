import { platform } from '#platform';

/** Models that come with the package, in its folder `models`. */
export const packagedModels = ['stories'] as const;

/** What an argument that names a model may be. */
export const modelArgument = `folder of a Mamba checkpoint (official or transformers) or of a training run, or a model of the package: ${packagedModels.join(', ')}`;

/** The folder that `model` names: itself where there is one, else that of the package's model of this name. */
export async function modelFolder(model: string): Promise<string> {
  const packaged = packagedModels.find((name) => name === model);
  if (packaged === undefined || (await platform.pathKind(model)) !== undefined) return model;
  return platform.packagePath(`models/${packaged}`);
}
