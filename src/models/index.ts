export * from './mamba/index.js';
export { packagedModel, packagedModels } from './packaged-models.js';
