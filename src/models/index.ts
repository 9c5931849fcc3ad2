/** What users have of language models. What the package's other folders need besides is imported by its path. */
export { loadModel, saveModel, type LoadOptions } from './checkpoint.js';
export type { OnWarning } from './config-keys.js';
export { falconMambaFamily, type FalconMambaConfig } from './falcon-mamba/family.js';
export type { BaseConfig, ConfigJson, Fact, FamilyKeys, FamilyOptions, ModelFamily, Parts } from './family.js';
export { gptNeoxFamily, type GptNeoxConfig } from './gpt-neox/family.js';
export { gruFamily, type GruConfig } from './gru/family.js';
export { LanguageModel, type ForwardOptions, type ReadOptions } from './language-model.js';
export { mambaConfig, mambaSizes, type MambaConfig, type MambaConfigOptions, type MambaModelInitialisation, type MambaSize } from './mamba/config.js';
export { mambaFamily } from './mamba/family.js';
export { packagedModel, packagedModels } from './packaged-models.js';
export { weightDTypes, type WeightDType } from './packing.js';
export type { Prepared } from './prepared.js';
export { familyNamed, familyNames, publishedModel, publishedNames, readConfigFile, registerFamily, type DescribedModel } from './registry.js';
export { State } from './state.js';
export { transformerFamily } from './transformer/family.js';
export type { TransformerConfig } from './transformer-layers.js';
