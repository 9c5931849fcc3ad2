export * from '../../../../dist/generate/index.js';
