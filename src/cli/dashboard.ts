import { platform } from '#platform';
import { metricsName } from '../train/metrics.js';
import { ArgumentError } from '../util/errors.js';

/** Tried first, so that the address is the same for every run. */
export const dashboardPort = 8420;

const pollMs = 500;
const mostBytes = 2 ** 20;
/** Polls between signs of life: that a tab was closed is noticed when something is sent to it. */
const pollsPerSign = 10;

/** The page's files, by path. */
const files: Readonly<Record<string, { readonly name: string; readonly type: string }>> = {
  '/': { name: 'index.html', type: 'text/html' },
  '/dashboard.js': { name: 'dashboard.js', type: 'text/javascript' },
  '/dashboard.css': { name: 'dashboard.css', type: 'text/css' },
};

const headers = {
  'Cache-Control': 'no-store',
  'Content-Security-Policy': "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:",
  'X-Content-Type-Options': 'nosniff',
};

/** A page that shows a run. */
export interface Dashboard {
  readonly url: string;
  /** Tells open pages that the run has ended, and ends the server. */
  close(): Promise<void>;
}

/** What the page is told of a run besides its metrics. */
export interface DashboardRun {
  readonly folder: string;
  /** Where its metrics are, while a run that is to replace another has no checkpoint; default: the folder. */
  readonly working?: () => string;
  /** Steps when it is done. */
  readonly steps?: number;
}

/**
 * Serves a page on 127.0.0.1 that shows the metrics of a run's folder, those there are and those to come. It reads the file
 * that the run appends to and nothing else, so that any number of pages, opened at any time, show the same.
 * @param port none: `dashboardPort`, or any where that is taken
 * @throws ArgumentError where the port that was asked for is taken
 */
export async function startDashboard(run: DashboardRun, port?: number): Promise<Dashboard> {
  const ended = new AbortController();
  const session = crypto.randomUUID();
  const respond: Parameters<typeof platform.serveLocally>[1] = async ({ method, path, headers: { host, 'last-event-id': last } }) => {
    // A page from elsewhere, whose name was pointed to this machine, must not read a run.
    if (!/^(localhost|127\.0\.0\.1|\[::1\])(:\d+)?$/.test(host ?? '')) return problem(403, 'unknown host');
    if (method !== 'GET') return problem(405, 'only GET');
    if (path === '/metrics') {
      const body = events(run, session, last, ended.signal);
      return { status: 200, headers: { ...headers, 'Content-Type': 'text/event-stream' }, body };
    }
    const file = Object.hasOwn(files, path) ? files[path] : undefined;
    if (file === undefined) return problem(404, 'no such page');
    const body = await platform.readPackageFile(`dashboard/${file.name}`);
    return { status: 200, headers: { ...headers, 'Content-Type': `${file.type}; charset=utf-8` }, body };
  };
  const server = (await platform.serveLocally(port ?? dashboardPort, respond)) ?? (port === undefined ? await platform.serveLocally(0, respond) : undefined);
  if (server === undefined) {
    throw new ArgumentError(`dashboard: port ${String(port)} is taken. Hint: another port, or none, for any that is free`);
  }
  return {
    url: `http://127.0.0.1:${server.port}/`,
    close() {
      ended.abort();
      return server.close();
    },
  };
}

const restart = 'event: restart\ndata: all\n\n';

const problem = (status: number, text: string) => ({ status, headers: { ...headers, 'Content-Type': 'text/plain' }, body: `${text}\n` });

/**
 * The lines of a run's metrics as server-sent events, many in one event. `run` comes first, `restart` where the lines so far
 * are to be forgotten, `end` when the run has ended.
 * @param session part of an event's id: a browser that comes back gets what it missed from this server, all from another
 */
async function* events({ folder, working = () => folder, steps }: DashboardRun, session: string, lastId: string | undefined, ended: AbortSignal): AsyncGenerator<string, void, void> {
  const [lastSession, lastOffset] = (lastId ?? '').split(' ');
  let offset = lastSession === session && /^\d+$/.test(lastOffset ?? '') ? Number(lastOffset) : 0;
  yield `event: run\ndata: ${JSON.stringify({ folder, steps })}\n\n`;
  if (offset === 0) yield restart;
  for (let polls = 1; ; polls++) {
    const last = ended.aborted;
    const lines = await readLines(platform.joinPath(working(), metricsName), offset);
    if (lines === null) {
      offset = 0;
      yield restart;
    } else if (lines.length > 0) {
      offset += lines.length;
      const data = new TextDecoder().decode(lines).trimEnd().split('\n').map((line) => `data: ${line}\n`);
      yield `id: ${session} ${offset}\n${data.join('')}\n`;
    } else if (last) {
      yield 'event: end\ndata: all\n\n';
      return;
    } else {
      if (polls % pollsPerSign === 0) yield ':\n\n';
      await pause(ended);
    }
  }
}

/** The whole lines of a file from byte `offset` on, at most a mebibyte; null where the file is shorter than that. */
async function readLines(path: string, offset: number): Promise<Uint8Array | null> {
  if ((await platform.pathKind(path)) !== 'file') return offset > 0 ? null : new Uint8Array();
  const file = await platform.openFile(path);
  try {
    // A run that is resumed takes back what came after its checkpoint.
    if (file.sizeBytes < offset) return null;
    const bytes = await file.read(offset, Math.min(mostBytes, file.sizeBytes - offset));
    return bytes.subarray(0, bytes.lastIndexOf(0x0a) + 1);
  } finally {
    await file.close();
  }
}

function pause(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, pollMs);
    if (signal.aborted) done();
    else signal.addEventListener('abort', done);
  });
}
