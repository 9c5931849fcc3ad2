import { agreementSuite } from './agreement-suite.js';

agreementSuite(/^selective-scan /);
