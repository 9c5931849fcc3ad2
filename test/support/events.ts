/** A server-sent event. */
export interface ServerEvent {
  readonly event: string;
  readonly data: string;
  readonly id: string | undefined;
}

/** A connection to a stream of server-sent events. */
export class EventStream {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly #decoder = new TextDecoder();
  #rest = '';

  private constructor(body: ReadableStream<Uint8Array>) {
    this.#reader = body.getReader();
  }

  static async open(url: string, headers: Record<string, string> = {}): Promise<EventStream> {
    const { status, body } = await fetch(url, { headers });
    if (status !== 200 || body === null) throw new Error(`${url} gives ${status}`);
    return new EventStream(body);
  }

  /** The next event, or null at the end of the stream. Comments are left out. */
  async next(): Promise<ServerEvent | null> {
    for (;;) {
      const end = this.#rest.indexOf('\n\n');
      if (end >= 0) {
        const lines = this.#rest.slice(0, end).split('\n');
        this.#rest = this.#rest.slice(end + 2);
        const field = (name: string) => lines.filter((line) => line.startsWith(`${name}: `)).map((line) => line.slice(name.length + 2));
        if (field('data').length > 0) return { event: field('event')[0] ?? 'message', data: field('data').join('\n'), id: field('id')[0] };
      } else {
        const { done, value } = await this.#reader.read();
        if (done) return null;
        this.#rest += this.#decoder.decode(value, { stream: true });
      }
    }
  }

  /** Events up to the first that `last` holds for, with it. */
  async until(last: (event: ServerEvent) => boolean): Promise<ServerEvent[]> {
    const events: ServerEvent[] = [];
    for (let event = await this.next(); event !== null; event = await this.next()) {
      events.push(event);
      if (last(event)) return events;
    }
    throw new Error(`the stream ended after ${JSON.stringify(events).slice(0, 500)}`);
  }

  close(): Promise<void> {
    return this.#reader.cancel();
  }
}
