export * from '../../../../dist/train/index.js';
