import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { LocalRequest, LocalResponse, LocalServer } from './platform.js';

/** See `Platform.serveLocally`. */
export async function serveLocally(
  port: number,
  respond: (request: LocalRequest) => LocalResponse | Promise<LocalResponse>,
): Promise<LocalServer | undefined> {
  const server = createServer((request, response) => {
    answer(request, response, respond).catch((error: unknown) => {
      // The client hears that it went wrong; the process goes on with what it is really there for.
      if (!response.headersSent) response.writeHead(500, { 'Content-Type': 'text/plain' });
      response.end(`${error instanceof Error ? error.message : String(error)}\n`);
    });
  });
  try {
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') return undefined;
    throw error;
  }
  return { port: (server.address() as AddressInfo).port, close: () => close(server) };
}

async function answer(
  { method = 'GET', url = '/', headers }: IncomingMessage,
  response: ServerResponse,
  respond: (request: LocalRequest) => LocalResponse | Promise<LocalResponse>,
): Promise<void> {
  const [path = '/'] = url.split('?');
  const given = Object.entries(headers).map(([name, value]) => [name, Array.isArray(value) ? value.join() : value]);
  const { status, headers: own, body } = await respond({ method, path, headers: Object.fromEntries(given) as LocalRequest['headers'] });
  // A server that closes would wait for connections that are kept.
  response.writeHead(status, { ...own, Connection: 'close' });
  if (typeof body === 'string' || body instanceof Uint8Array) {
    response.end(body);
    return;
  }
  const gone = new Promise<void>((resolve) => response.once('close', resolve));
  for await (const piece of body) {
    if (response.destroyed) break;
    if (!response.write(piece)) await Promise.race([once(response, 'drain'), gone]);
  }
  response.end();
}

async function close(server: Server): Promise<void> {
  const closed = new Promise<void>((resolve) => void server.close(() => resolve()));
  const timer = setTimeout(() => server.closeAllConnections(), 1000);
  await closed;
  clearTimeout(timer);
}
