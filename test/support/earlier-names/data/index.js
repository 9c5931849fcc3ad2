export * from '../../../../dist/data/index.js';
