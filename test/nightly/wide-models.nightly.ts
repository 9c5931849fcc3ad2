import { agreementSuite, wideCases } from '../webgpu/agreement-suite.js';

agreementSuite(new RegExp(`^${wideCases}`));
