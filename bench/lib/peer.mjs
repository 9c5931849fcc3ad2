// Peers run in processes of their own, so that neither side's threads, memory or garbage collector are in the other's way.
import { fork } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const folder = new URL('../peers/', import.meta.url);

/** Why the peers cannot be run, or undefined where they can. */
export function missingPeers() {
  if (existsSync(new URL('node_modules/', folder))) return undefined;
  return 'not installed (npm install --prefix bench/peers)';
}

/** A program in bench/peers that answers calls with numbers. */
export class Peer {
  #child;
  /** @type {string} */
  #errors = '';

  /** @param {string} script @param {readonly string[]} parameters */
  constructor(script, parameters) {
    this.#child = fork(fileURLToPath(new URL(script, folder)), [...parameters], { stdio: ['ignore', 'ignore', 'pipe', 'ipc'] });
    this.#child.stderr?.on('data', (data) => (this.#errors += String(data)));
  }

  /**
   * Calls one of the program's functions.
   * @param {string} name
   * @param {...unknown} parameters
   * @returns {Promise<any>} what it answers
   */
  call(name, ...parameters) {
    const child = this.#child;
    return new Promise((resolve, reject) => {
      const ended = () => reject(new Error(`the peer ended: ${this.#errors.trim().split('\n').slice(-3).join(' ')}`));
      child.once('exit', ended);
      child.once('message', (/** @type {{result?: unknown, error?: string}} */ message) => {
        child.off('exit', ended);
        if (message.error === undefined) resolve(message.result);
        else reject(new Error(message.error));
      });
      if (child.connected) child.send({ name, parameters });
      else ended();
    });
  }

  async close() {
    const child = this.#child;
    if (child.exitCode !== null || child.signalCode !== null) return;
    await new Promise((resolve) => {
      child.once('exit', resolve);
      child.kill();
    });
  }
}
