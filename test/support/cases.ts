import { Tape } from '../../src/autograd/index.js';
import { scope, tensor } from '../../src/tensor/index.js';
import { Random } from '../../src/util/random.js';
import { caseRunner } from './run-case.js';

export type { CaseResult } from './run-case.js';
export const { runCase, centralDifferences } = caseRunner({ Tape, scope, tensor, Random });
