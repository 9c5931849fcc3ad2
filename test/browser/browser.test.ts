import { existsSync } from 'node:fs';
import { chromium } from 'playwright-core';
import { describe, expect, test } from 'vitest';
import { splitText } from '../../src/data/index.js';
import { generateTokens } from '../../src/generate/index.js';
import { loadModel, mambaConfig, LanguageModel, mambaFamily } from '../../src/models/index.js';
import { defaultTrainingOptions, Trainer } from '../../src/train/index.js';
import * as operations from '../../src/ops/all-cases.js';
import { useBackend } from '../support/backends.js';
import { expectClose, tolerance } from '../support/compare.js';
import { goldenPath } from '../support/goldens.js';
import { idTensor, read } from '../support/models.js';
import { isNight } from '../support/rare-cases.js';
import { listCases } from '../webgpu/agreement.js';
import { serve } from './serve.js';

interface Results {
  description: string;
  logits: number[];
  greedy: number[];
  losses: number[];
  liveBuffers: number;
}

interface Agreements {
  description: string;
  checked: number;
  failures: string[];
}

const executable = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find((path) => existsSync(path));
if (executable === undefined && process.env['CI'] === 'true') throw new Error('CI must test in a browser: no chromium found');
const note = executable === undefined ? ' (skipped: no chromium on this machine)' : '';

/** What a page of `serve` leaves in globalThis.results. */
async function inBrowser<T>(path: string, isolated: boolean): Promise<T> {
  const { url, server } = await serve(isolated);
  const browser = await chromium.launch({
    executablePath: executable ?? '',
    // A headless browser gives a WebGPU adapter, SwiftShader where there is no GPU, only when it is told to.
    args: ['--no-sandbox', '--enable-unsafe-webgpu', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
  try {
    const page = await browser.newPage();
    const problems: string[] = [];
    page.on('pageerror', (error) => problems.push(error.message));
    await page.goto(new URL(path, url).href);
    await page.waitForFunction('globalThis.results !== undefined', undefined, { timeout: 60_000 }).catch((error: unknown) => {
      throw new Error(`the page did not start: ${problems.join('; ')}`, { cause: error });
    });
    return await page.evaluate<T>('globalThis.results');
  } finally {
    await browser.close();
    server.close();
  }
}

describe.skipIf(executable === undefined)(`Chromium${note}`, () => {
  const backend = useBackend('cpu', { kernels: 'wasm' });

  test.each([
    { kind: 'cpu', isolated: true, expected: /wasm SIMD128 kernels, 2 threads/ },
    { kind: 'cpu', isolated: false, expected: /wasm SIMD128 kernels, 1 thread/ },
    { kind: 'webgpu', isolated: false, expected: /^webgpu \(/ },
  ])('$kind in a page (cross-origin isolated: $isolated) equals Node', async ({ kind, isolated, expected }) => {
    // The kernels of training take a software GPU most of a minute to compile: by day, their operations' cases check them.
    const steps = kind === 'cpu' || isNight ? 10 : 0;
    const results = await inBrowser<Results>(`model?backend=${kind}&steps=${steps}`, isolated);
    expect(results.description).toMatch(expected);
    expect(results.liveBuffers).toBe(0);

    const model = await loadModel(goldenPath('hf-mamba'), backend());
    const ids = Int32Array.from({ length: 37 }, (_, i) => (i * 31 + 5) % 97);
    expectClose(results.logits, await read(() => model.forward(idTensor(backend(), ids, [1, 37]))), tolerance(37), 'logits');
    const greedy: number[] = [];
    for await (const id of generateTokens(model, ids.subarray(0, 8), { temperature: 0, maxTokens: 16 })) greedy.push(id);
    expect(results.greedy).toEqual(greedy);
    model.dispose();

    const trained = LanguageModel.initial(mambaFamily, mambaConfig({ vocabularySize: 16, dModel: 20, layers: 2 }), backend(), 1);
    const text = Uint8Array.from({ length: 2000 }, (_, i) => (i * i + 3 * i) % 16);
    const trainer = new Trainer(trained, splitText(text), { ...defaultTrainingOptions(10), batchSize: 2, length: 32 });
    const losses: number[] = [];
    for (let step = 0; step < steps; step++) losses.push((await trainer.trainStep()).loss);
    trainer.dispose();
    trained.dispose();
    expectClose(results.losses, losses, tolerance(320), 'training losses');
  });

  // One thread of a page compiles all of a software GPU's kernels: a test of the night. Node's tests run the cases on the same WebGPU.
  test.runIf(isNight)('every webgpu kernel agrees with the reference', { timeout: 1_800_000 }, async () => {
    const { description, checked, failures } = await inBrowser<Agreements>('agreement', false);
    expect(description).toMatch(/^webgpu \(/);
    expect(failures).toEqual([]);
    expect(checked).toBe(listCases(operations, false).length);
  });
});
