// All rows, in the order they are run.
import { expertRows } from './experts.mjs';
import { fftRows } from './fft.mjs';
import { modelRows, threadRows } from './models.mjs';
import { operationRows } from './operations.mjs';
import { rooflineRows } from './roofline.mjs';
import { lengthRows } from './scaling.mjs';
import { scanThreads, singleRows } from './single.mjs';

/** @type {readonly import('../lib/row.mjs').Row[]} */
export const rows = [...rooflineRows, ...modelRows, ...singleRows, ...operationRows, ...expertRows, ...fftRows, ...lengthRows, ...threadRows, scanThreads];
