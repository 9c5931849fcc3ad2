import { agreementSuite } from './agreement-suite.js';

agreementSuite(/^(matmul|packed|cross-entropy) /);
