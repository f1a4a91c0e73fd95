import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { isIPv6 } from 'node:net';
import type { Page } from '@playwright/test';
import { FREE, Link, type LinkCounters, type LinkShape, seededRandom } from './link.ts';

declare global {
  /** Rewrites an answer so that the page's media goes through its network. */
  var leadThroughNetwork: (sdp: string) => Promise<string>;
}

/** What a network does in each direction, seen from the page. What is left out is {@link FREE}. */
export interface NetworkShape {
  readonly down?: Partial<LinkShape>;
  readonly up?: Partial<LinkShape>;
}

export interface Address {
  readonly ip: string;
  readonly port: number;
}

/**
 * The network between a page and the server's media ports: a router with an access line, in user space. Answers lead
 * the page here, and each address that it sends from gets one of its own on the server's side, as by a NAT. HTTP and
 * WebSockets go past it. So does media over TCP, which answers name only where UDP is blocked.
 */
export class Network {
  readonly #up: Link<() => void>;
  readonly #down: Link<() => void>;
  readonly #doors = new Map<string, Door>();
  #udpBlocked = false;
  #timer: NodeJS.Timeout | undefined;
  #wakeAt = Number.POSITIVE_INFINITY;

  /** With the same seed and the same datagrams the same ones are lost. */
  constructor(shape: NetworkShape = {}, seed = 1) {
    this.#up = new Link({ ...FREE, ...shape.up }, seededRandom(seed));
    this.#down = new Link({ ...FREE, ...shape.down }, seededRandom(-seed));
  }

  /** Puts a network in front of a page that is not opened yet; it ends with the page. */
  static async before(page: Page, shape: NetworkShape = {}, seed = 1): Promise<Network> {
    const network = new Network(shape, seed);
    page.once('close', () => network.close());
    await page.exposeFunction('leadThroughNetwork', (sdp: string) => network.lead(sdp));
    await page.addInitScript(() => {
      const setRemoteDescription: (
        this: RTCPeerConnection,
        to: RTCSessionDescriptionInit,
      ) => Promise<void> = RTCPeerConnection.prototype.setRemoteDescription;
      RTCPeerConnection.prototype.setRemoteDescription = async function (description) {
        const sdp = await leadThroughNetwork(description.sdp ?? '');
        return setRemoteDescription.call(this, { type: description.type, sdp });
      };
    });
    return network;
  }

  /** Changes the links. What is on the line arrives as before, what waits in a queue leaves at the new rate. */
  shape(shape: NetworkShape): void {
    this.#up.shape = { ...FREE, ...shape.up };
    this.#down.shape = { ...FREE, ...shape.down };
    this.#pump();
  }

  /** Sends from other ports from here on and hears nothing on those before, as after a change of network. */
  moveAddress(): void {
    for (const { outlets } of this.#doors.values()) {
      for (const outlet of outlets.values()) outlet.close();
      outlets.clear();
    }
  }

  /** Lets no datagram through, as many companies do. */
  blockUdp(): void {
    this.#udpBlocked = true;
  }

  /** What has happened on the links so far. */
  get counters(): { readonly up: LinkCounters; readonly down: LinkCounters } {
    return { up: { ...this.#up.counters }, down: { ...this.#down.counters } };
  }

  /** Rewrites the candidates of an answer, so that whoever reads it sends through this network. */
  async lead(answer: string): Promise<string> {
    const passes = (line: string) => this.#udpBlocked || !TCP_CANDIDATE.test(line);
    const offered = answer.split('\r\n').filter(passes);
    const lines = offered.map(async (line) => {
      const [, head, ip, port, tail] = UDP_CANDIDATE.exec(line) ?? [];
      if (!head || !ip || !port) return line;
      const door = await this.door({ ip, port: Number(port) });
      return `${head} ${ip} ${door.port} ${tail}`;
    });
    return (await Promise.all(lines)).join('\r\n');
  }

  /** Returns the address on the page's side that leads to one on the server's. */
  async door(server: Address): Promise<Address> {
    const key = `${server.ip} ${server.port}`;
    let door = this.#doors.get(key);
    if (!door) {
      const socket = openSocket(server.ip).bind(0, server.ip);
      door = { server, socket, listening: once(socket, 'listening'), outlets: new Map() };
      this.#doors.set(key, door);
      this.#listen(door);
    }
    await door.listening;
    return { ip: server.ip, port: door.socket.address().port };
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#udpBlocked = true;
    this.moveAddress();
    for (const { socket } of this.#doors.values()) socket.close();
    this.#doors.clear();
  }

  #listen(door: Door): void {
    door.socket.on('message', (bytes, from) => {
      this.#carry(this.#up, bytes, () => {
        this.#outlet(door, from).send(bytes, door.server.port, door.server.ip);
      });
    });
  }

  /** The socket from which the server hears that address of the page. */
  #outlet(door: Door, inside: RemoteInfo): Socket {
    const key = `${inside.address} ${inside.port}`;
    let outlet = door.outlets.get(key);
    if (!outlet) {
      outlet = openSocket(door.server.ip);
      outlet.on('message', (bytes) => {
        this.#carry(this.#down, bytes, () => {
          door.socket.send(bytes, inside.port, inside.address);
        });
      });
      door.outlets.set(key, outlet);
    }
    return outlet;
  }

  #carry(link: Link<() => void>, bytes: Buffer, deliver: () => void): void {
    if (this.#udpBlocked) return;
    link.push(deliver, bytes.length, performance.now());
    this.#pump();
  }

  /** Delivers what has arrived and comes back for the rest. */
  #pump(): void {
    if (this.#udpBlocked) return;
    for (const link of [this.#up, this.#down]) {
      let deliver = link.pull(performance.now());
      for (; deliver; deliver = link.pull(performance.now())) deliver();
    }
    const next = Math.min(this.#up.next, this.#down.next);
    if (next === this.#wakeAt) return;
    clearTimeout(this.#timer);
    this.#wakeAt = next;
    if (next === Number.POSITIVE_INFINITY) return;
    this.#timer = setTimeout(() => {
      this.#wakeAt = Number.POSITIVE_INFINITY;
      this.#pump();
    }, next - performance.now());
  }
}

/** A port on the page's side and what it leads to. */
interface Door {
  readonly server: Address;
  readonly socket: Socket;
  readonly listening: Promise<unknown>;
  /** Sockets on the server's side, by the address on the page's side that they stand for. */
  readonly outlets: Map<string, Socket>;
}

function openSocket(ip: string): Socket {
  // An address that is gone must not end the test: datagrams get lost.
  return createSocket(isIPv6(ip) ? 'udp6' : 'udp4').on('error', () => {});
}

const TCP_CANDIDATE = /^a=candidate:\S+ \d+ tcp /i;
const UDP_CANDIDATE = /^(a=candidate:\S+ \d+ udp \d+) (\S+) (\d+) (.*)$/i;
