import type { Command } from 'commander';
import { openCheckpoint } from '../../io/index.js';
import { loadModel, type WeightDType } from '../../models/index.js';
import { expectFormat, readCheckpoint } from '../../models/checkpoint.js';
import type { Backend } from '../../tensor/index.js';
import { loadTokenizer, type Tokenizer } from '../../tokenizer/index.js';
import { ArgumentError } from '../../util/errors.js';
import { byteSize, compact, counted, grouped } from '../format.js';
import { lineCharts } from '../line-chart.js';
import { measureModel, type Measurement } from '../measure-model.js';
import { measuring } from '../measuring.js';
import { isModel, modelArgument, modelFolder } from '../model-argument.js';
import { dtypeOption, integer, overwriteOption, printWarning, refuseOption, verifyOption, withBackend, withComputeOptions, type ComputeOptions } from '../options.js';
import type { ProgressLine } from '../progress.js';
import { shortNames } from '../short-names.js';
import { checkSvgFile, writeSvgFile } from '../svg-file.js';
import { expandTexts, isText } from '../text-paths.js';
import { readWindows, scoredWindows, type ScoredWindow } from '../text-windows.js';
import { checkDocumentOptions, documentOptions, type DocumentOptions } from '../training-data.js';

interface Options extends ComputeOptions, DocumentOptions {
  readonly out?: string;
  readonly overwrite?: boolean;
  readonly dtype?: WeightDType;
  readonly verify?: true;
  readonly length: number;
  readonly limit: number;
  readonly context?: readonly number[];
  readonly json?: boolean;
}

const defaultContexts = [1024, 16 * 1024, 128 * 1024];

/** `elapid compare MODEL… TEXT` */
export function addCompare(program: Command): void {
  withComputeOptions(
    documentOptions(program.command('compare'))
      .summary('measure models side by side: loss, speed and memory')
      .description(
        'Measures models on one text, one after the other, under the same conditions:\n' +
          '  bits a byte    of the text, were it compressed with the model; the figure to\n' +
          '                 compare models of different tokenizers by; lower is better\n' +
          '  loss           in nats a token; comparable between models of one tokenizer\n' +
          '  reading        speed of going through a prompt (prefill), one sequence\n' +
          '  writing        speed of generating after it (decoding, greedy), one sequence\n' +
          '  memory         of the weights; of the state of a sequence after so many tokens\n' +
          '                 of context; at most, of all tensors during the measurement\n\n' +
          'The text is cut into windows of --length bytes, none across two documents, and each model reads every window from its beginning; ' +
          'one that is longer than the model’s context, in parts that overlap by half. All models are scored on the same bytes: those of each window from the first place on where a token begins under all of the ' +
          'tokenizers, but not its first token, which is given. Speeds are measured on the first window; bytes a second are by the ' +
          'mean bytes of a token of the text.\n\n' +
          'The picture that --out names shows bits a byte by the position in the window, and the memory of the state by the context.',
      )
      .usage('[options] <model...> <text>')
      .argument('<paths...>', `models, each a ${modelArgument}; and last the text: a file of UTF-8 text, or a .jsonl file, or a folder of them`)
      .option('-o, --out <file>', 'an SVG file with the curves, NAME.svg; another plot in its place is replaced')
      .addOption(overwriteOption('replace a file that is no SVG'))
      .addOption(dtypeOption())
      .addOption(verifyOption())
      .option('--length <n>', 'bytes of a window', integer(2), 4096)
      .option('--limit <n>', 'only the first n bytes of the text', integer(2), 100_000)
      .option('--context <n>', `tokens to tell the memory of the state for; may be repeated (default: ${defaultContexts.join(', ')})`, repeatedContext)
      .option('--json', 'print one JSON object: text and models, with all figures and curves'),
  )
    .addHelpText(
      'after',
      '\nExamples:\n  elapid compare stories runs/austen data/pride-and-prejudice.txt\n' +
        '  elapid compare runs/mamba runs/other held-out.txt --out compared.svg --context 4096 --context 65536',
    )
    .action(run);
}

const contextNumber = integer(1);
const repeatedContext = (text: string, earlier: readonly number[] = []): readonly number[] => [...earlier, contextNumber(text)];

/** A model before it is loaded. */
interface Candidate {
  /** As it was named. */
  readonly model: string;
  readonly folder: string;
  readonly tokenizer: Tokenizer;
  /** Format of the large matrices when it is loaded. */
  readonly dtype: WeightDType;
}

/** What is told of a model. */
interface Row extends Measurement {
  readonly model: string;
  readonly dtype: WeightDType;
}

async function run(paths: readonly string[], options: Options, command: Command): Promise<void> {
  const { out, overwrite = false, length, limit, json = false } = options;
  const [models, text] = [paths.slice(0, -1), paths.at(-1) ?? ''];
  if (models.length === 0) command.error("error: missing argument 'text': expected models, and last the text to measure them on");
  if (out === undefined) refuseOption(command, 'overwrite', "is for the file that '--out' names");
  // All that can be found out in a moment comes before what takes minutes.
  await checkPlaces(models, text);
  await checkDocumentOptions(command, [text]);
  if (out !== undefined) await checkSvgFile('compare', out, overwrite);
  const files = await expandTexts('compare', [text]);
  const candidates: Candidate[] = [];
  for (const model of models) candidates.push(await describe(model, options.dtype));
  const tokenizers = candidates.map(({ tokenizer }) => tokenizer);
  const { scored: windows, inexact } = scoredWindows(await readWindows(files, options), tokenizers);
  for (const { model, tokenizer } of candidates) {
    if (inexact.has(tokenizer)) printWarning(`the tokenizer of ${model} changes the text (lower case, characters left out): its bits a byte are of less than the text`);
  }
  await measuring((signal, progress) =>
    withBackend(options, async (backend) => {
      const rows: Row[] = [];
      for (const candidate of candidates) rows.push(await measure(backend, candidate, windows, { options, signal, progress }));
      progress.clear();
      const about = {
        path: text,
        windows: windows.length,
        windowBytes: length,
        bytes: windows.reduce((sum, { bytes }) => sum + bytes, 0),
        scoredBytes: windows.reduce((sum, { bytes, firstScored }) => sum + bytes - firstScored, 0),
        limit,
      };
      if (out !== undefined) await writeSvgFile(out, picture(rows));
      process.stdout.write(json ? `${JSON.stringify({ text: about, backend: backend.description, models: rows })}\n` : table(rows, about, backend));
    }),
  );
}

/** @throws ArgumentError where a text stands in a model's place, or a model in that of the text */
async function checkPlaces(models: readonly string[], text: string): Promise<void> {
  const fail = (argument: string, expected: string, got: string, hint: string) => new ArgumentError({ operation: 'compare', argument, expected, got, hint });
  if (await isModel(text)) {
    const hint = 'the text to measure the models on comes last';
    throw fail(text, 'a file of text, or a folder of texts, as the last argument', 'a model', hint);
  }
  for (const model of models) {
    if ((await isModel(model)) || !(await isText(model))) continue;
    const hint = 'one text comes last; several can be files of one folder';
    throw fail(model, 'a model: a folder with config.json and weights, or a name', 'a text', hint);
  }
}

async function describe(model: string, dtype: WeightDType | undefined): Promise<Candidate> {
  const folder = await modelFolder(model);
  const checkpoint = await openCheckpoint(folder);
  try {
    const described = await readCheckpoint(checkpoint, printWarning);
    if (dtype !== undefined) expectFormat(described, dtype);
    const tokenizer = await loadTokenizer(folder, described.config.vocabularySize);
    return { model, folder, tokenizer, dtype: dtype ?? described.dtype };
  } finally {
    await checkpoint.close();
  }
}

interface Conduct {
  readonly options: Options;
  readonly signal: AbortSignal;
  readonly progress: ProgressLine;
}

/** Loads a model, measures it and frees it. */
async function measure(backend: Backend, candidate: Candidate, windows: readonly ScoredWindow[], { options, signal, progress }: Conduct): Promise<Row> {
  const { model: name, folder, tokenizer, dtype } = candidate;
  signal.throwIfAborted();
  progress.show(`${name}  loading`);
  // What is odd in its files was told when it was described.
  const model = await loadModel(folder, backend, { dtype: options.dtype, verify: options.verify, onWarning: () => undefined });
  try {
    const measured = await measureModel(model, tokenizer, windows, {
      contexts: options.context ?? defaultContexts,
      signal,
      onProgress(doing, share) {
        progress.show(`${name}  ${doing}${share === undefined ? '' : `  ${Math.floor(100 * share)} % of the text`}`);
      },
    });
    return { model: name, dtype, ...measured };
  } finally {
    model.dispose();
  }
}

interface AboutText {
  readonly path: string;
  readonly windows: number;
  /** Of a window at most. */
  readonly windowBytes: number;
  readonly bytes: number;
  readonly scoredBytes: number;
}

/** A column for each model. */
function table(rows: readonly Row[], { windows, windowBytes, bytes, scoredBytes }: AboutText, backend: Backend): string {
  const names = shortNames(rows.map(({ model }) => model));
  const line = (label: string, value: (row: Row) => string): string[] => [label, ...rows.map(value)];
  const lines = [
    ['', ...names],
    line('family', ({ family }) => family),
    line('parameters', ({ parameters }) => grouped(parameters)),
    line('bits a byte', (row) => row.bitsPerByte.toFixed(4)),
    line('loss, nats a token', (row) => row.loss.toFixed(4)),
    line('perplexity, a token', (row) => row.perplexity.toPrecision(4)),
    line('tokens scored', ({ tokens }) => grouped(tokens)),
    line('bytes a token', (row) => (row.bytes / row.tokens).toFixed(2)),
    line('reading, tokens/s', ({ reading }) => compact(reading.tokensPerSecond)),
    line('reading, bytes/s', ({ reading }) => compact(reading.bytesPerSecond)),
    line('writing, tokens/s', ({ writing }) => compact(writing.tokensPerSecond)),
    line('writing, bytes/s', ({ writing }) => compact(writing.bytesPerSecond)),
    line('weights', (row) => `${byteSize(row.weightBytes)} ${row.dtype}`),
    ...(rows[0]?.state ?? []).map(({ context }, i) => line(`state, ${contextSize(context)} tokens`, ({ state }) => byteSize(state[i]?.bytes ?? NaN))),
    line('tensors at most', ({ peakBytes }) => byteSize(peakBytes)),
  ];
  const widths = lines[0]?.map((_, column) => Math.max(...lines.map((cells) => cells[column]?.length ?? 0))) ?? [];
  const aligned = lines.map((cells) => cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join('  '));
  const about =
    `${grouped(bytes)} bytes in ${counted(windows, 'window')} of at most ${grouped(windowBytes)}, each read from its beginning; ` +
    `${grouped(scoredBytes)} bytes scored, the same for all; ${backend.description}`;
  return `${about}\n\n${aligned.join('\n')}\n`;
}

/** `16K`, of powers of two; others in full. */
const contextSize = (tokens: number): string => (tokens >= 1024 && tokens % 1024 === 0 ? `${grouped(tokens / 1024)}K` : grouped(tokens));

function picture(rows: readonly Row[]): string {
  const names = shortNames(rows.map(({ model }) => model));
  const curves = (points: (row: Row) => readonly (readonly [number, number])[]) =>
    rows.map((row, group) => ({ label: names[group] ?? '', points: points(row), group }));
  return lineCharts([
    {
      // The middle of each part; counted from 1, which a logarithm can show.
      curves: curves(({ curve }) => curve.map(({ from, to, bitsPerByte }) => [Math.sqrt((from + 1) * to), bitsPerByte] as const)),
      axes: { title: 'Bits a byte by position', x: 'position in the window, bytes', y: 'bits a byte', log: 'x', xLabel: contextSize },
    },
    {
      curves: curves(({ state }) => state.map(({ context, bytes }) => [context, bytes] as const).sort(([a], [b]) => a - b)),
      axes: { title: 'Memory by context', x: 'context, tokens', y: 'state of a sequence, bytes', log: 'xy', xLabel: contextSize, yLabel: binarySize, dots: true },
    },
  ]);
}

/** `16 KiB`, of powers of two. */
function binarySize(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  const unit = Math.max(0, Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10)));
  return `${grouped(bytes / 1024 ** unit)} ${units[unit] ?? ''}`;
}
