import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort, Program, run } from './process.ts';

/** A real RTMP server: nginx with its rtmp module. It refuses some keys. */
export class RtmpServer {
  /** The keys that it refuses from here on. */
  readonly refused = new Set<string>();
  readonly #folder: string;
  readonly #process: Program;
  readonly #port: number;
  /** nginx asks there whether it may take a stream. */
  readonly #door: Server;

  private constructor(folder: string, process: Program, port: number, door: Server) {
    this.#folder = folder;
    this.#process = process;
    this.#port = port;
    this.#door = door;
  }

  static async start(): Promise<RtmpServer> {
    const folder = await mkdtemp(join(tmpdir(), 'fanlight-rtmp-'));
    const port = await freePort();
    const door = createServer();
    await new Promise<void>((resolve) => door.listen(0, '127.0.0.1', resolve));
    const config = join(folder, 'nginx.conf');
    const { port: doorPort } = door.address() as AddressInfo;
    await writeFile(config, configuration(folder, port, doorPort));
    const process = new Program('/usr/sbin/nginx', ['-e', 'stderr', '-p', folder, '-c', config]);
    const server = new RtmpServer(folder, process, port, door);
    door.on('request', async (request, response) => {
      let body = '';
      for await (const chunk of request) body += String(chunk);
      const key = new URLSearchParams(body).get('name') ?? '';
      response.writeHead(server.refused.has(key) ? 403 : 200, { connection: 'close' }).end();
    });
    try {
      await server.#listening();
    } catch (error) {
      await server.stop();
      throw error;
    }
    return server;
  }

  /** What a broadcaster pastes as the URL. */
  get url(): string {
    return `rtmp://127.0.0.1:${this.#port}/live`;
  }

  /** Reads the stream of that key for a moment and returns what it is made of. */
  async probe(key: string): Promise<ProbedStream[]> {
    const entries = 'stream=codec_type,codec_name,width,height,sample_rate';
    const url = `${this.url}/${key}`;
    const args = ['-v', 'error', '-of', 'json', '-show_entries', entries, url];
    const parsed: unknown = JSON.parse(await run('ffprobe', ['-rw_timeout', '8000000', ...args]));
    if (typeof parsed !== 'object' || parsed === null || !('streams' in parsed)) return [];
    return Array.isArray(parsed.streams) ? (parsed.streams as ProbedStream[]) : [];
  }

  async stop(): Promise<void> {
    await this.#process.end('SIGTERM');
    this.#door.close();
    await rm(this.#folder, { recursive: true, force: true });
  }

  async #listening(): Promise<void> {
    const deadline = Date.now() + 5_000;
    while (!(await accepts(this.#port))) {
      if (!this.#process.running || Date.now() > deadline) {
        throw new Error(`nginx does not listen:\n${this.#process.output}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

/** One stream as ffprobe describes it. */
export interface ProbedStream {
  codec_type: 'video' | 'audio';
  codec_name: string;
  width?: number;
  height?: number;
  sample_rate?: string;
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

function configuration(folder: string, port: number, door: number): string {
  return `
load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;
daemon off;
master_process off;
pid ${folder}/nginx.pid;
error_log stderr warn;
events {}
rtmp {
  access_log off;
  server {
    listen 127.0.0.1:${port};
    application live { live on; on_publish http://127.0.0.1:${door}/; }
  }
}
`;
}
