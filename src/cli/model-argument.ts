import { platform } from '#platform';
import { packagedModel, packagedModels, publishedNames } from '../models/index.js';
import { ArgumentError } from '../util/errors.js';
import { didYouMean } from '../util/nearest.js';

/** What an argument that names a model may be. */
export const modelArgument = `folder of a checkpoint (config.json and weights) or of a training run; a GGUF file; or a model of the package: ${packagedModels.join(', ')}`;

/**
 * The folder that `model` names: itself where there is one, else that of the package's model of this name.
 * @param more names that the command takes besides, for hints
 * @throws ArgumentError where there is neither, and the name is almost one that is known, or that of a published model
 */
export async function modelFolder(model: string, more: readonly string[] = []): Promise<string> {
  if ((await platform.pathKind(model)) !== undefined) return model;
  const name = packagedModels.find((one) => one === model);
  if (name !== undefined) return packagedModel(name);
  const hint = publishedNames().includes(model)
    ? `. Hint: the package has no weights of this model; download a checkpoint of it, then give the folder`
    : didYouMean(model, [...packagedModels, ...more]);
  if (hint !== '') throw new ArgumentError(`${model}: no such file or folder${hint}`);
  return model;
}

/** Whether an argument names a model rather than texts: one of the package, or a folder or file with a config or weights. */
export async function isModel(path: string): Promise<boolean> {
  const kind = await platform.pathKind(path);
  if (kind === undefined) return packagedModels.some((name) => name === path);
  const names = kind === 'folder' ? await platform.listFolder(path) : [path];
  return names.some((name) => name === 'config.json' || /\.(safetensors|bin|gguf)$/.test(name));
}
