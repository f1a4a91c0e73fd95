import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Program, run } from './process.ts';

/** The server under test: a process of its own with a data folder of its own. */
export class Server {
  readonly #program: string;
  readonly #dataDir: string;
  readonly #settings: Settings;
  readonly #publicIp: string;
  #process: Program;
  #earlierOutput = '';
  #link: URL;
  #httpPort: string;
  #udpPort: string;

  private constructor(
    program: string,
    dataDir: string,
    settings: Settings,
    publicIp: string,
    started: Started,
  ) {
    this.#program = program;
    this.#dataDir = dataDir;
    this.#settings = settings;
    this.#publicIp = publicIp;
    this.#process = started.process;
    this.#link = started.link;
    this.#httpPort = started.link.port;
    this.#udpPort = started.udpPort;
  }

  /**
   * Starts the binary named by `FANLIGHT` on free ports, with settings such as `FANLIGHT_EGRESS__MAX_JOBS`, and tells
   * browsers to reach its media at this address.
   */
  static async start(settings: Settings = {}, publicIp = '127.0.0.1'): Promise<Server> {
    const program = process.env.FANLIGHT;
    if (!program) throw new Error('set FANLIGHT to the server binary, as `make e2e` does');
    const dataDir = await mkdtemp(join(tmpdir(), 'fanlight-e2e-'));
    const started = await launch(program, dataDir, '0', '0', settings, publicIp);
    const server = new Server(program, dataDir, settings, publicIp, started);
    const page = await fetch(server.origin);
    if (page.ok) return server;
    await server.stop();
    throw new Error(`no pages: ${await page.text()}`);
  }

  /** The printed link that makes its opener the owner. */
  get ownerLink(): string {
    return this.#link.href;
  }

  get origin(): string {
    return this.#link.origin;
  }

  get ownerToken(): string {
    const token = new URLSearchParams(this.#link.hash.slice(1)).get('token');
    if (!token) throw new Error(`no token in the printed link ${this.#link.href}`);
    return token;
  }

  get log(): string {
    return this.#earlierOutput + this.#process.output;
  }

  /** Makes a room as the owner. */
  async createRoom(slug: string, title = slug): Promise<void> {
    const response = await this.api('POST', '/api/rooms', { slug, title });
    if (!response.ok) throw new Error(`no room: ${response.status} ${await response.text()}`);
  }

  /** Calls the HTTP API as the owner. */
  async api(method: string, path: string, body?: unknown): Promise<Response> {
    return fetch(new URL(path, this.origin), {
      method,
      headers: {
        authorization: `Bearer ${this.ownerToken}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  }

  /** Ends what a room still sends out. */
  async endOutputs(room: string): Promise<void> {
    const path = `/api/rooms/${room}/egress`;
    const { jobs }: { jobs: { id: string; state: string }[] } = await (
      await this.api('GET', path)
    ).json();
    const over = ['ended', 'failed'];
    const running = jobs.filter(({ state }) => !over.includes(state));
    await Promise.all(running.map(({ id }) => this.api('DELETE', `${path}/${id}`)));
  }

  /** Returns a token made on the command line, such as `token('room', '--publish')`. */
  async token(room: string, ...grants: string[]): Promise<string> {
    const args = ['token', '--data-dir', this.#dataDir, '--room', room, ...grants];
    return (await run(this.#program, args)).trim();
  }

  /** Ends the process without warning, as a power cut does. */
  async kill(): Promise<void> {
    await this.#process.end('SIGKILL');
  }

  /** Starts it again on the same ports and data. */
  async startAgain(): Promise<void> {
    this.#earlierOutput += `${this.#process.output}\n--- started again\n`;
    const ports = [this.#httpPort, this.#udpPort] as const;
    const started = await launch(
      this.#program,
      this.#dataDir,
      ...ports,
      this.#settings,
      this.#publicIp,
    );
    this.#process = started.process;
    this.#link = started.link;
  }

  /** Ends it cleanly, removes its data and returns its exit code. */
  async stop(): Promise<number | null> {
    const code = await this.#process.end('SIGTERM');
    await rm(this.#dataDir, { recursive: true, force: true });
    return code;
  }
}

/** Settings by their environment variables. */
type Settings = Readonly<Record<string, string>>;

interface Started {
  process: Program;
  link: URL;
  udpPort: string;
}

async function launch(
  program: string,
  dataDir: string,
  httpPort: string,
  udpPort: string,
  settings: Settings,
  publicIp: string,
): Promise<Started> {
  const args = [
    'serve',
    ...['--data-dir', dataDir],
    ...['--http', `127.0.0.1:${httpPort}`],
    ...['--udp-port', udpPort],
    ...['--public-ip', publicIp],
  ];
  const process = new Program(program, args, settings);
  try {
    const [, media] = await process.prints(/media is reached at address=\S+:(\d+)/);
    const [link] = await process.prints(/https?:\/\/\S+\/#token=\S+/);
    if (media === undefined) throw new Error('no media port in the log');
    return { process, link: new URL(link), udpPort: media };
  } catch (error) {
    await process.end('SIGKILL');
    throw error;
  }
}
