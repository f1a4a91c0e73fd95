/** What one direction of a network does to what is sent over it. */
export interface LinkShape {
  /** Bit/s, counting {@link HEADERS} bytes a datagram more than its payload. */
  readonly rate: number;
  /** How long a full queue takes to drain, ms. What comes while it is full is dropped. */
  readonly queueMs: number;
  readonly delayMs: number;
  /** Most additional delay, ms, evenly distributed. It changes no order. */
  readonly jitterMs: number;
  /** Share of datagrams that are lost, 0 to 1. */
  readonly loss: number;
  /** Share of datagrams that arrive {@link REORDER_MS} later than those sent after them. */
  readonly reorder: number;
}

/** A link that changes nothing. */
export const FREE: LinkShape = {
  rate: Number.POSITIVE_INFINITY,
  queueMs: 200,
  delayMs: 0,
  jitterMs: 0,
  loss: 0,
  reorder: 0,
};

/** What became of the datagrams of a link. */
export interface LinkCounters {
  sent: number;
  /** Found the queue full. */
  dropped: number;
  /** Lost by chance. */
  lost: number;
  arrived: number;
  /** Of those that arrived, headers included. */
  bytes: number;
}

/**
 * One direction of a network: a queue in front of a transmitter of limited rate, then a line with a delay. It knows
 * no clock and no socket: whoever uses it says what time it is, in ms, and calls `pull` when `next` says so.
 */
export class Link<T> {
  readonly counters: LinkCounters = { sent: 0, dropped: 0, lost: 0, arrived: 0, bytes: 0 };
  readonly #random: () => number;
  readonly #queue: Queued<T>[] = [];
  #queuedBytes = 0;
  readonly #line: OnLine<T>[] = [];
  #shape: LinkShape;
  #transmitterFreeAt = 0;
  #lastArrival = 0;

  constructor(shape: LinkShape, random: () => number) {
    this.#shape = shape;
    this.#random = random;
  }

  /** Applies to what has not been transmitted yet. */
  set shape(shape: LinkShape) {
    this.#shape = shape;
  }

  push(datagram: T, length: number, now: number): void {
    this.#transmit(now);
    const size = length + HEADERS;
    const { rate, queueMs } = this.#shape;
    this.counters.sent++;
    if (this.#queuedBytes + size > Math.max((rate * queueMs) / 8000, LEAST_QUEUE)) {
      this.counters.dropped++;
      return;
    }
    this.#queue.push({ datagram, size, at: now });
    this.#queuedBytes += size;
    this.#transmit(now);
  }

  /** Returns the next datagram that has arrived by now. */
  pull(now: number): T | undefined {
    this.#transmit(now);
    const first = this.#line[0];
    if (!first || first.at > now) return undefined;
    this.#line.shift();
    this.counters.arrived++;
    this.counters.bytes += first.size;
    return first.datagram;
  }

  /** When something happens next; infinite when nothing is under way. */
  get next(): number {
    const head = this.#queue[0];
    const transmitted = head ? this.#transmittedAt(head) : Number.POSITIVE_INFINITY;
    return Math.min(transmitted, this.#line[0]?.at ?? Number.POSITIVE_INFINITY);
  }

  #transmit(now: number): void {
    for (let head = this.#queue[0]; head; head = this.#queue[0]) {
      const at = this.#transmittedAt(head);
      if (at > now) return;
      this.#queue.shift();
      this.#queuedBytes -= head.size;
      this.#transmitterFreeAt = at;
      this.#travel(head, at);
    }
  }

  #transmittedAt({ at, size }: Queued<T>): number {
    return Math.max(at, this.#transmitterFreeAt) + (size * 8000) / this.#shape.rate;
  }

  #travel({ datagram, size }: Queued<T>, from: number): void {
    const { delayMs, jitterMs, loss, reorder } = this.#shape;
    const [lost, late, jitter] = [this.#random(), this.#random(), this.#random()];
    if (lost < loss) {
      this.counters.lost++;
      return;
    }
    let at = Math.max(from + delayMs + jitter * jitterMs, this.#lastArrival);
    if (late < reorder) at += REORDER_MS;
    else this.#lastArrival = at;
    let place = this.#line.length;
    while ((this.#line[place - 1]?.at ?? 0) > at) place--;
    this.#line.splice(place, 0, { datagram, size, at });
  }
}

/** Evenly distributed numbers from 0 to 1, the same for the same seed (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Of IPv4 and UDP. */
export const HEADERS = 28;

interface Queued<T> {
  readonly datagram: T;
  readonly size: number;
  readonly at: number;
}

interface OnLine<T> {
  readonly datagram: T;
  readonly size: number;
  readonly at: number;
}

/** Two datagrams fit into any queue, bytes: a slow link must carry something. */
const LEAST_QUEUE = 3_000;
const REORDER_MS = 10;
