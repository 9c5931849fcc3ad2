import { once } from 'node:events';
import { appendFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { createServer } from 'node:net';
import { chromium } from 'playwright-core';
import { beforeAll, describe, expect, test } from 'vitest';
import { readMetrics, runCli, startCli, tinyRun, trainingText, type MetricsLine, type RunningCli } from '../support/cli.js';
import { EventStream, type ServerEvent } from '../support/events.js';
import { useFolder } from '../support/folders.js';

const executable = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find((path) => existsSync(path));
if (executable === undefined && process.env['CI'] === 'true') throw new Error('CI must test in a browser: no chromium found');

const linesOf = (events: readonly ServerEvent[]) =>
  events.filter(({ event }) => event === 'message').flatMap(({ data }) => data.split('\n').map((line) => JSON.parse(line) as MetricsLine));
const lossSteps = (events: readonly ServerEvent[]) => linesOf(events).flatMap(({ step, loss }) => (loss === undefined ? [] : [step]));
const upTo = (least: number) => (event: ServerEvent) => event.event === 'message' && linesOf([event]).some(({ step, loss }) => loss !== undefined && step >= least);

/** Waits for the line that tells the address. */
async function addressOf({ child }: RunningCli): Promise<string> {
  let text = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (text += chunk.toString()));
  for (;;) {
    const [url] = /http:\/\/127\.0\.0\.1:\d+\//.exec(text) ?? [];
    if (url !== undefined) return url;
    if (child.exitCode !== null) throw new Error(`ended with ${child.exitCode}: ${text}`);
    await Promise.race([once(child.stderr, 'data'), once(child.stdout, 'data'), once(child, 'close')]);
  }
}

describe('a dashboard', () => {
  const path = useFolder();
  const endless = [...tinyRun, '--steps', '1000000', '--evaluate-every', '1000', '--save-every', '10', '--sample-every', '20'];
  const train = (folder: string, ...more: readonly string[]) => startCli(['train', path('text.txt'), '--out', path(folder), ...endless, '--dashboard', ...more]);

  beforeAll(() => {
    writeFileSync(path('text.txt'), trainingText);
  });

  test('of a run shows its lines as they come to any number of pages, and ends with it', async () => {
    const running = train('run');
    const url = await addressOf(running);
    const first = await EventStream.open(`${url}metrics`);
    const early = await first.until(upTo(30));
    expect(early[0]).toMatchObject({ event: 'run', data: JSON.stringify({ folder: path('run'), steps: 1000000 }) });
    expect(early[1]).toMatchObject({ event: 'restart' });

    const second = await EventStream.open(`${url}metrics`);
    const gone = await EventStream.open(`${url}metrics`);
    const late = await second.until(upTo(60));
    await gone.until(upTo(1));
    await gone.close();
    running.child.kill('SIGINT');
    const all = [...early, ...(await first.until(({ event }) => event === 'end'))];
    const both = [...late, ...(await second.until(({ event }) => event === 'end'))];
    expect(await first.next()).toBeNull();
    const { code, stderr } = await running.result;
    expect(code, stderr).toBe(130);
    await expect(fetch(url)).rejects.toThrow();

    const written = readMetrics(path('run', 'metrics.jsonl'));
    // The run evaluates once more after the signal; what pages get ends no earlier than the file.
    expect(linesOf(all)).toEqual(written);
    expect(linesOf(both)).toEqual(written);
    expect(lossSteps(all)).toEqual(lossSteps(all).map((_, i) => i + 1));
  });

  test('of a resumed run has the lines before and after', async () => {
    const before = readMetrics(path('run', 'metrics.jsonl')).length;
    const running = startCli(['train', '--resume', path('run'), '--threads', '1', '--dashboard']);
    const events = await EventStream.open(`${await addressOf(running)}metrics`);
    const seen = await events.until(upTo(before + 20));
    running.child.kill('SIGINT');
    seen.push(...(await events.until(({ event }) => event === 'end')));
    expect((await running.result).code).toBe(130);
    const restart = seen.findLastIndex(({ event }) => event === 'restart');
    expect(linesOf(seen.slice(restart))).toEqual(readMetrics(path('run', 'metrics.jsonl')));
    expect(lossSteps(seen.slice(restart))).toEqual(lossSteps(seen.slice(restart)).map((_, i) => i + 1));
  });

  test('has samples of the model after the beginning of the held-out text', () => {
    const samples = readMetrics(path('run', 'metrics.jsonl')).flatMap((line) => (line.sample === undefined ? [] : [line]));
    expect(samples.length).toBeGreaterThan(2);
    // One that was under way when the run was interrupted is left out.
    for (const [i, { step }] of samples.entries()) expect(step % 20 === 0 && step > (samples[i - 1]?.step ?? 0)).toBe(true);
    const bytes = new TextEncoder().encode(trainingText);
    const held = new TextDecoder().decode(bytes.subarray(bytes.length - 300, bytes.length - 300 + 32));
    for (const { prompt, sample } of samples) {
      expect(prompt).toBe(held);
      expect(sample?.length).toBeGreaterThan(20);
    }
    expect(new Set(samples.map(({ sample }) => sample)).size).toBe(samples.length);
  });

  describe('of a finished run', () => {
    const line = (step: number) => `${JSON.stringify({ step, loss: 3 / step, gradientNorm: 1, learningRate: 0.1, tokensPerSecond: 1000 + step, seconds: step })}\n`;
    const file = () => path('finished', 'metrics.jsonl');

    beforeAll(() => {
      mkdirSync(path('finished'));
      writeFileSync(file(), [1, 2, 3].map(line).join(''));
    });

    const serve = async () => {
      const running = startCli(['dashboard', path('finished')]);
      const url = await addressOf(running);
      const end = async () => {
        running.child.kill('SIGINT');
        expect(await running.result).toMatchObject({ code: 0, stdout: `${url}\n`, stderr: '' });
      };
      return { url, end };
    };

    test('follows the file: lines that come, half a line, lines taken back', async () => {
      const { url, end } = await serve();
      const events = await EventStream.open(`${url}metrics`);
      const steps = (last: number) => events.until(upTo(last)).then(lossSteps);
      expect(await steps(3)).toEqual([1, 2, 3]);
      appendFileSync(file(), line(4) + line(5).slice(0, 20));
      expect(await steps(4)).toEqual([4]);
      appendFileSync(file(), line(5).slice(20));
      expect(await steps(5)).toEqual([5]);
      writeFileSync(file(), [1, 2].map(line).join(''));
      const back = await events.until(upTo(2));
      expect(back.map(({ event }) => event)).toEqual(['restart', 'message']);
      expect(lossSteps(back)).toEqual([1, 2]);
      appendFileSync(file(), line(3));
      expect(await steps(3)).toEqual([3]);
      await events.close();
      await end();
    });

    test('gives a browser that comes back what it missed', async () => {
      const { url, end } = await serve();
      const events = await EventStream.open(`${url}metrics`);
      const id = (await events.until(upTo(3))).at(-1)?.id ?? '';
      await events.close();
      appendFileSync(file(), line(4));
      const again = await EventStream.open(`${url}metrics`, { 'Last-Event-ID': id });
      const missed = await again.until(upTo(4));
      expect(missed.map(({ event }) => event)).toEqual(['run', 'message']);
      expect(lossSteps(missed)).toEqual([4]);
      // Of another server, or nonsense: everything from the beginning.
      for (const other of [`x ${id.split(' ')[1] ?? ''}`, id.replace(/\d+$/, '-1'), 'nonsense']) {
        const anew = await EventStream.open(`${url}metrics`, { 'Last-Event-ID': other });
        const all = await anew.until(upTo(4));
        expect(all.map(({ event }) => event)).toEqual(['run', 'restart', 'message']);
        expect(lossSteps(all)).toEqual([1, 2, 3, 4]);
        await anew.close();
      }
      await again.close();
      await end();
    });

    test('is served to this machine’s own pages alone, and nothing but the page is', async () => {
      const { url, end } = await serve();
      const status = (host: string, target = '/', method = 'GET') =>
        new Promise<number | undefined>((resolve, reject) => {
          const asked = request(url, { path: target, method, headers: { Host: host } }, (response) => resolve(response.resume().statusCode));
          asked.on('error', reject).end();
        });
      for (const host of ['127.0.0.1', 'localhost:1234', '[::1]:80']) expect(await status(host)).toBe(200);
      for (const host of ['example.org', 'localhost.example.org', '127.0.0.1.example.org']) expect(await status(host, '/metrics')).toBe(403);
      for (const target of ['/run.json', '/../package.json', '/%2e%2e/package.json', '/toString', '//']) expect(await status('localhost', target)).toBe(404);
      expect(await status('localhost', '/', 'POST')).toBe(405);
      for (const [name, type] of [['', 'text/html'], ['dashboard.js', 'text/javascript'], ['dashboard.css', 'text/css']] as const) {
        const response = await fetch(url + name);
        expect(response.headers.get('Content-Type')).toBe(`${type}; charset=utf-8`);
        expect(response.headers.get('Content-Security-Policy')).toContain("default-src 'none'");
        expect(await response.text()).toBe(readFileSync(new URL(`../../dashboard/${name === '' ? 'index.html' : name}`, import.meta.url), 'utf8'));
      }
      await end();
    });

    test('a port that is taken is an error where it was asked for', async () => {
      const taken = createServer();
      await once(taken.listen(0, '127.0.0.1'), 'listening');
      const port = String((taken.address() as { port: number }).port);
      const { code, stderr } = await runCli('dashboard', path('finished'), '--port', port);
      expect({ code, stderr }).toEqual({ code: 1, stderr: `elapid: dashboard: port ${port} is taken. Hint: another port, or none, for any that is free\n` });
      const asked = await runCli('train', path('text.txt'), '--out', path('nothing'), ...tinyRun, '--dashboard', port);
      expect(asked.code).toBe(1);
      expect(existsSync(path('nothing'))).toBe(false);
      taken.close();
      const [one, other] = [await serve(), await serve()];
      expect(one.url).not.toBe(other.url);
      await Promise.all([one.end(), other.end()]);
    });
  });

  const note = executable === undefined ? ' (skipped: no chromium on this machine)' : '';
  test.skipIf(executable === undefined)(`draws the run in Chromium${note}`, async () => {
    mkdirSync(path('drawn'));
    const lines: object[] = [];
    for (let step = 1; step <= 50; step++) {
      lines.push({ step, loss: 1 + 3 / step, gradientNorm: 1, learningRate: 1e-3, tokensPerSecond: 1234, lossScale: 1024, seconds: step });
      if (step % 25 === 0) lines.push({ step, validationLoss: 1.25, seconds: step }, { step, prompt: '<b>It is', sample: ' a <i>truth', seconds: step });
    }
    writeFileSync(path('drawn', 'metrics.jsonl'), lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
    const running = startCli(['dashboard', path('drawn')]);
    const url = await addressOf(running);
    const browser = await chromium.launch({ executablePath: executable ?? '', args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking'] });
    try {
      const page = await browser.newPage({ viewport: { width: 1000, height: 900 } });
      const problems: string[] = [];
      page.on('pageerror', ({ message }) => problems.push(message));
      page.on('console', (message) => {
        if (message.type() === 'error') problems.push(message.text());
      });
      await page.goto(url);
      await page.getByText('step 50 · 50 s of training').waitFor({ timeout: 20_000 });
      const heads = await page.locator('.chart:not([hidden]) header').allInnerTexts();
      expect(heads.map((text) => text.replace(/\s+/g, ' ').trim())).toEqual([
        ...['Loss, nats a token training 1.060 held out 1.250', 'Gradient norm 1', 'Learning rate 1.00e-3', 'Tokens a second 1,234', 'Loss scale 1024'],
      ]);
      expect(await page.locator('#samples li').allInnerTexts()).toEqual(['step 50\n<b>It is a <i>truth', 'step 25\n<b>It is a <i>truth']);
      // Something is drawn: the first chart has pixels of the curve's colour.
      const drawn = await page.evaluate<number>(`(() => {
        const canvas = document.querySelector('canvas');
        const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        let count = 0;
        for (let i = 0; i < data.length; i += 4) if (data[i] < 40 && data[i + 2] > 150 && data[i + 3] > 200) count++;
        return count;
      })()`);
      expect(drawn).toBeGreaterThan(200);

      appendFileSync(path('drawn', 'metrics.jsonl'), `${JSON.stringify({ step: 51, divergence: 'step 51 has loss NaN', skipped: true, seconds: 51 })}\n`);
      await page.getByText('Left out: step 51 has loss NaN').waitFor({ timeout: 20_000 });
      // A run that was resumed at step 40 makes the steps after it again.
      appendFileSync(path('drawn', 'metrics.jsonl'), `${JSON.stringify({ step: 41, loss: 2, gradientNorm: 1, learningRate: 1e-3, tokensPerSecond: 1, seconds: 41 })}\n`);
      await page.getByText('step 41 · 41 s of training').waitFor({ timeout: 20_000 });
      expect(await page.locator('#samples li').count()).toBe(1);
      expect(await page.locator('#divergences').isVisible()).toBe(false);
      running.child.kill('SIGINT');
      await page.getByText('the run has ended').waitFor({ timeout: 20_000 });
      expect((await running.result).code).toBe(0);
      expect(problems.filter((text) => !text.includes('ERR_CONNECTION_REFUSED'))).toEqual([]);
    } finally {
      running.child.kill('SIGKILL');
      await browser.close();
    }
  });
});
