import { platform } from '#platform';

/** Models that come with the package, in its folder `models`. */
export const packagedModels = ['stories'] as const;

/**
 * Where a model of the package is: a folder for `loadModel`, in a browser a URL.
 * @param name `stories`: 17 million parameters, on bytes, trained on children's books and fairy tales (its README.md is its card)
 */
export const packagedModel = (name: (typeof packagedModels)[number]): string => platform.packagePath(`models/${name}`);
