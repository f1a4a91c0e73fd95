import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { promisify } from 'node:util';

/** A child process whose output is kept. */
export class Program {
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;
  #output = '';

  /** `environment` is added to one's own. */
  constructor(
    command: string,
    args: readonly string[],
    environment: Readonly<Record<string, string>> = {},
  ) {
    const env = { ...process.env, ...environment };
    this.#child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], env });
    this.#exited = once(this.#child, 'exit').catch((error: unknown) => {
      this.#output += `\n${command} did not start: ${String(error)}`;
    });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.#output = (this.#output + text).slice(-OUTPUT_LIMIT);
      });
    }
  }

  /** What it wrote to standard output and error so far, at most the last megabyte. */
  get output(): string {
    return this.#output;
  }

  get running(): boolean {
    return (
      this.#child.pid !== undefined &&
      this.#child.exitCode === null &&
      this.#child.signalCode === null
    );
  }

  /** Waits until its output matches. Rejects with the output when it ends first or takes too long. */
  async prints(pattern: RegExp, timeoutMs = 15_000): Promise<RegExpMatchArray> {
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      const match = this.#output.match(pattern);
      if (match) return match;
      if (!this.running || Date.now() > deadline) {
        const what = this.running ? `printed no ${pattern} in time` : 'ended';
        throw new Error(`${this.#child.spawnfile} ${what}:\n${this.#output}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** Ends it and returns its exit code, or null when a signal ended it. */
  async end(signal: NodeJS.Signals): Promise<number | null> {
    if (this.running) this.#child.kill(signal);
    if (this.#child.pid !== undefined) await this.#exited;
    return this.#child.exitCode;
  }
}

/** Runs a program to its end and returns its standard output. Rejects when it fails or takes too long. */
export async function run(
  command: string,
  args: readonly string[],
  timeoutMs = 20_000,
): Promise<string> {
  const { stdout } = await promisify(execFile)(command, args, { timeout: timeoutMs });
  return stdout;
}

/** Returns a TCP port of the loopback interface that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('not a TCP port');
  return address.port;
}

const OUTPUT_LIMIT = 1024 * 1024;
