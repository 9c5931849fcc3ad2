import { generateTokens, prefill } from '../generate/index.js';
import { State, type LanguageModel } from '../models/index.js';
import { countParameters } from '../nn/index.js';
import { bufferSize, itemSize } from '../tensor/index.js';
import { tokenStarts } from '../tokenizer/token-bytes.js';
import type { Tokenizer } from '../tokenizer/index.js';
import { sequenceLosses } from '../train/evaluate.js';
import { bitsPerByte, perplexity } from '../train/index.js';
import type { ScoredWindow } from './text-windows.js';

/** How fast a model reads or writes. */
export interface Speed {
  readonly tokensPerSecond: number;
  /** By the text's mean bytes a token. */
  readonly bytesPerSecond: number;
}

/** A part of the windows, by bytes from their beginning. */
export interface CurvePoint {
  /** The first byte. */
  readonly from: number;
  /** The byte after the last. */
  readonly to: number;
  /** Mean over the windows. */
  readonly bitsPerByte: number;
}

/** What is measured of a model. */
export interface Measurement {
  readonly family: string;
  readonly parameters: number;
  /** Memory of the weights. */
  readonly weightBytes: number;
  /** Nats a token. */
  readonly loss: number;
  /** A token. */
  readonly perplexity: number;
  readonly bitsPerByte: number;
  /** Tokens that were scored. */
  readonly tokens: number;
  /** Bytes of these. */
  readonly bytes: number;
  /** Bits a byte by the place in the window. */
  readonly curve: readonly CurvePoint[];
  readonly reading: Speed;
  readonly writing: Speed;
  /** Memory of one sequence's state after so many tokens. */
  readonly state: readonly { readonly context: number; readonly bytes: number }[];
  /** The most memory that tensors took at a time, weights included. */
  readonly peakBytes: number;
}

/** How a measurement is made and watched. */
export interface MeasureOptions {
  /** Tokens of context that the state's memory is told for. */
  readonly contexts: readonly number[];
  readonly signal: AbortSignal;
  /** Told what is under way; `share` of the text is scored. */
  readonly onProgress: (doing: string, share?: number) => void;
}

/**
 * Measures a model: how well it predicts the windows, each from no state, how fast it reads and writes at batch 1, and its memory.
 * @throws ArgumentError where a loss is not finite
 */
export async function measureModel(model: LanguageModel, tokenizer: Tokenizer, windows: readonly ScoredWindow[], options: MeasureOptions): Promise<Measurement> {
  const { contexts, signal, onProgress } = options;
  model.backend.resetStatistics();
  const scores = await scoreWindows(model, tokenizer, windows, options);
  const { loss, tokens, bytes } = scores;
  const ids = tokenizer.encode(windows[0]?.text ?? '');
  const speed = (tokensPerSecond: number): Speed => ({ tokensPerSecond, bytesPerSecond: (tokensPerSecond * bytes) / tokens });
  onProgress('reading speed');
  const reading = speed(await readingSpeed(model, ids, signal));
  onProgress('writing speed');
  const writing = speed(await writingSpeed(model, ids, signal));
  return {
    family: model.family.name,
    parameters: countParameters(model.parameters),
    weightBytes: weightBytes(model),
    ...{ loss, perplexity: perplexity({ loss, tokens }), bitsPerByte: bitsPerByte({ loss, tokens }, bytes), tokens, bytes },
    curve: scores.curve,
    ...{ reading, writing },
    state: contexts.map((context) => ({ context, bytes: State.sizeBytes(model, context) })),
    peakBytes: model.backend.statistics().peakBytes,
  };
}

/** Memory of the weights as they are packed. */
export const weightBytes = ({ parameters }: Pick<LanguageModel, 'parameters'>): number =>
  parameters.reduce((sum, { tensor: { dtype, shape } }) => sum + bufferSize(dtype, shape) * itemSize[dtype], 0);

interface Scores {
  /** Mean, nats a token. */
  readonly loss: number;
  readonly tokens: number;
  readonly bytes: number;
  readonly curve: readonly CurvePoint[];
}

async function scoreWindows(
  model: LanguageModel,
  tokenizer: Tokenizer,
  windows: readonly ScoredWindow[],
  { signal, onProgress }: MeasureOptions,
): Promise<Scores> {
  const longest = windows.reduce((length, { bytes }) => Math.max(length, bytes), 0);
  // By the place in the window: nats of all windows, and the number of them that are scored there.
  const [nats, counts] = [new Float64Array(longest), new Float64Array(longest)];
  const total = windows.reduce((sum, window) => sum + window.bytes, 0);
  let [sum, tokens, bytes, read] = [0, 0, 0, 0];
  for (const window of windows) {
    onProgress('loss', read / total);
    const ids = tokenizer.encode(window.text);
    const { starts } = tokenStarts(tokenizer, window.text, ids);
    for (let place = window.firstScored; place < window.bytes; place++) counts[place] = (counts[place] as number) + 1;
    bytes += window.bytes - window.firstScored;
    let i = 0;
    for await (const losses of sequenceLosses(model, ids, { signal })) {
      for (const loss of losses) {
        i++;
        const start = starts[i] as number;
        if (start < window.firstScored || start >= window.bytes) continue;
        sum += loss;
        tokens++;
        // A token's loss is of all its bytes.
        const end = Math.max(start + 1, starts[i + 1] ?? window.bytes);
        for (let place = start; place < end; place++) nats[place] = (nats[place] as number) + loss / (end - start);
      }
    }
    read += window.bytes;
  }
  return { loss: sum / tokens, tokens, bytes, curve: curveOf(nats, counts) };
}

/** Bytes of the first part of a curve. */
const firstPart = 8;

/** Parts whose bounds grow by √2: what happens in a window happens at its beginning. */
function curveOf(nats: Float64Array, counts: Float64Array): CurvePoint[] {
  const curve: CurvePoint[] = [];
  for (let from = 0, part = 0; from < nats.length; part++) {
    const to = Math.min(nats.length, Math.round(firstPart * 2 ** (part / 2)));
    const add = (all: Float64Array) => all.subarray(from, to).reduce((sum, one) => sum + one, 0);
    const count = add(counts);
    if (count > 0) curve.push({ from, to, bitsPerByte: add(nats) / count / Math.LN2 });
    from = to;
  }
  return curve;
}

/** Reading is timed for so long, after it has been done once, and at most so many times. */
const timedSeconds = 2;
const mostReadings = 9;

/** Tokens a second of a prompt at batch 1: the median. */
async function readingSpeed(model: LanguageModel, ids: Int32Array, signal: AbortSignal): Promise<number> {
  const seconds: number[] = [];
  const begun = performance.now();
  for (let i = 0; i <= mostReadings; i++) {
    const state = model.newState(1);
    const started = performance.now();
    try {
      await prefill(model, ids, state, { signal });
    } finally {
      state.dispose();
    }
    // The first run is also that of shaders that compile and pages that are read.
    if (i > 0) seconds.push((performance.now() - started) / 1000);
    if (i > 0 && performance.now() - begun > 1000 * timedSeconds) break;
  }
  seconds.sort((a, b) => a - b);
  return ids.length / (seconds[Math.floor(seconds.length / 2)] as number);
}

const [leastWritten, mostWritten] = [32, 256];

/** Tokens a second of greedy decoding at batch 1, after a prompt. */
async function writingSpeed(model: LanguageModel, prompt: Int32Array, signal: AbortSignal): Promise<number> {
  // The first come with the prompt's logits, or with the recording of the step.
  const { stepsAhead } = model.backend;
  const untimed = 1 + stepsAhead;
  const tokens = generateTokens(model, prompt, { temperature: 0, maxTokens: untimed + mostWritten, signal });
  for (let i = 0; i < untimed; i++) await tokens.next();
  const started = performance.now();
  const seconds = () => (performance.now() - started) / 1000;
  let written = 0;
  // Steps that are queued together end together.
  while (written < mostWritten && (written < leastWritten || written % stepsAhead !== 0 || seconds() < timedSeconds)) {
    await tokens.next();
    written++;
  }
  const pace = written / seconds();
  await tokens.return();
  return pace;
}
