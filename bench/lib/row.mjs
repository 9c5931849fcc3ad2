// What a row is and how it is run.
import { probe } from './probe.mjs';
import { median, rounded, summarise } from './statistics.mjs';

/**
 * The other side of a row.
 * - measured: a peer, run in alternation with ours; `run` gives its figure
 * - self: as measured, but another way to run ours
 * - stated: a figure measured once, elsewhere; `value` is it, `ours` is ours on that machine on that day, and the ratio is of those two
 * - missing: the peer cannot be run here, and why
 * @typedef {{name: string, source: 'measured' | 'self', run: () => Promise<number>}
 *   | {name: string, source: 'stated', value: number, ours: number}
 *   | {name: string, source: 'missing', reason: string}} Other
 */

/**
 * What the machine allows: a function of probes' rates, measured in alternation with the row.
 * @typedef {{probes: readonly string[], value: (...rates: number[]) => number, basis: string}} Limit
 */

/**
 * @typedef {object} Measurement
 * @property {() => Promise<number>} ours one run, in the row's unit
 * @property {Other} [peer]
 * @property {Limit} [limit]
 * @property {() => Record<string, unknown>} [extra] more columns for the JSON
 * @property {() => Promise<void>} close
 */

/**
 * @typedef {object} Row
 * @property {string} name
 * @property {string} what one line
 * @property {string} unit
 * @property {'more' | 'less'} better which figures are better
 * @property {number} [runs] default 5
 * @property {(context: Context) => Promise<Measurement>} prepare
 */

/** @typedef {{threads: number, quick: boolean}} Context */

/** Thrown by `prepare` for what this build or machine does not have: the row is listed with the reason. */
export class NotAvailable extends Error {}

/** A row stops after the run in which its time is up, in milliseconds: a loaded machine must not make a benchmark of hours. */
const timeLimit = { full: 40_000, quick: 8_000 };

/** @param {() => unknown} body @returns {Promise<number>} milliseconds until what it returns is settled */
export async function milliseconds(body) {
  const start = performance.now();
  await body();
  return performance.now() - start;
}

/** Columns that every row has, whether it ran or not. @param {Row} row */
const head = ({ name, what, unit, better }) => ({ name, what, unit, better });

/**
 * Runs a row: once each to warm up, then ours, the peer and the probes in turn, as often as the row asks for.
 * @param {Row} row
 * @param {Context} context
 */
export async function runRow(row, context) {
  let measurement;
  try {
    measurement = await row.prepare(context);
  } catch (error) {
    if (error instanceof NotAvailable) return { ...head(row), skipped: error.message };
    throw error;
  }
  const { ours, peer, limit, extra, close } = measurement;
  try {
    const other = peer?.source === 'measured' || peer?.source === 'self' ? peer.run : undefined;
    await ours();
    await other?.();
    const runs = Math.min(row.runs ?? 5, context.quick ? 3 : Infinity);
    /** @type {number[]} */ const mine = [];
    /** @type {number[]} */ const theirs = [];
    /** @type {number[][]} */ const rates = [];
    const deadline = performance.now() + timeLimit[context.quick ? 'quick' : 'full'];
    for (let i = 0; i < runs && (i === 0 || performance.now() < deadline); i++) {
      mine.push(await ours());
      if (other !== undefined) theirs.push(await other());
      if (limit !== undefined) rates.push(await probe(limit.probes));
    }
    return { ...head(row), ...columns(row, mine, theirs, peer, limit, rates), ...extra?.() };
  } finally {
    await close();
  }
}

/**
 * @param {Row} row
 * @param {number[]} mine
 * @param {number[]} theirs
 * @param {Other | undefined} peer
 * @param {Limit | undefined} limit
 * @param {number[][]} rates
 */
function columns({ better }, mine, theirs, peer, limit, rates) {
  const ours = median(mine);
  const times = (/** @type {number} */ figure, /** @type {number} */ other) => (better === 'more' ? figure / other : other / figure);
  const own = summarise(mine);
  const side = peer?.source === 'stated' ? { median: peer.value } : theirs.length > 0 ? summarise(theirs) : undefined;
  // As ours: the middle of runs in alternation, on a machine that neighbours or its own heat may slow for all of them.
  const bounds = limit === undefined ? [] : rates.map((each) => limit.value(...each));
  const reach = bounds.length > 0 && bounds.every(Number.isFinite) ? summarise(bounds) : undefined;
  return {
    ours: own.median,
    runs: own.runs,
    spread: own.spread,
    peer: side?.median ?? null,
    ...(peer === undefined ? {} : { peerName: peer.name, peerSource: peer.source }),
    ...(peer?.source === 'missing' ? { peerMissing: peer.reason } : {}),
    ...(peer?.source === 'stated' ? { peerOurs: peer.ours } : {}),
    ...(side !== undefined && 'spread' in side ? { peerRuns: side.runs, peerSpread: side.spread } : {}),
    ratio: side === undefined ? null : rounded(times(peer?.source === 'stated' ? peer.ours : ours, side.median)),
    limit: reach?.median ?? null,
    ...(reach === undefined ? {} : { limitSpread: reach.spread }),
    limitShare: reach === undefined ? null : rounded(times(ours, reach.median)),
    ...(limit === undefined ? {} : { limitBasis: limit.basis }),
  };
}
