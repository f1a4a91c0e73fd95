import { Emitter } from './emitter.ts';
import { FanlightError } from './errors.ts';
import type { MediaLink, MediaRole } from './media-role.ts';
import type { Peer, PeerPlan } from './peer.ts';
import { AUDIO_SLOTS } from './protocol.ts';
import { Reception, type SlotCount } from './reception.ts';
import type { Room } from './room.ts';
import { withStereo } from './sdp.ts';
import { ViewerMeter, type ViewerStats } from './stats.ts';

/** How to receive. */
export interface WatchOptions {
  /** How much delay to add for smoothness, in milliseconds; 0 by default: as live as the network allows. */
  readonly jitterBufferMs?: number;
  /**
   * Receives everybody on stage, each in a {@link Tile} of their own, and who joins later without a new connection;
   * `false` by default: the program alone, as one stream for {@link Watch.attach}.
   */
  readonly stage?: boolean;
  /**
   * Receives what this participant sends, too, as from another page of the same person; `false` by default, for who is
   * on stage and knows.
   */
  readonly own?: boolean;
}

/** Somebody on stage as a view shows them. */
export interface Tile {
  /** The number of the slot that the picture comes in: stays while they are on stage. */
  readonly slot: number;
  /** `undefined` until the server has said who it is. */
  readonly identity: string | undefined;
  readonly name: string;
  readonly stream: MediaStream;
  /** Whether this one is to be shown large. */
  readonly program: boolean;
  /** How high the picture's layers are, the lowest first; 0 for one that is not sent, empty when nobody knows. */
  readonly heights: readonly number[];
}

/** How a view is doing. */
export type WatchState =
  | { readonly kind: 'idle' }
  | { readonly kind: 'connecting' }
  /** Connected; nobody is broadcasting. */
  | { readonly kind: 'waiting' }
  | { readonly kind: 'playing' }
  /** Connected; the broadcaster has paused. */
  | { readonly kind: 'paused' }
  | {
      readonly kind: 'reconnecting';
      readonly attempt: number;
      /** When the next attempt starts, by `Date.now()`; `undefined` while one is under way. */
      readonly retryAtMs: number | undefined;
      readonly error: FanlightError;
    }
  | { readonly kind: 'failed'; readonly error: FanlightError };

interface WatchEvents {
  state: WatchState;
  /** What to play of the program; another one after a reconnection. Not in a view of the stage. */
  stream: MediaStream;
  /** Who is to be shown, in a view of the stage. */
  tiles: readonly Tile[];
  /** What is to be heard, in a view of the stage: all of them at once. */
  sounds: readonly MediaStream[];
}

/** A view of a room's broadcast. It may start before the broadcast does, and connects again by itself. */
export class Watch {
  readonly #room: Room;
  readonly #options: WatchOptions;
  readonly #events = new Emitter<WatchEvents>();
  readonly #role: MediaRole;
  readonly #meter = new ViewerMeter();
  #running = new AbortController();
  #state: WatchState = { kind: 'idle' };
  #link: MediaLink = { kind: 'connecting', attempt: 0 };
  #everConnected = false;
  #peer: Peer | undefined;
  /** What the connection that is being made receives; shown once it carries something. */
  #coming: Reception | undefined;
  #shown: Reception | undefined;
  #stream: MediaStream | undefined;
  #tiles: readonly Tile[] = [];
  #limit: number | undefined;
  #video: HTMLMediaElement | undefined;

  constructor(room: Room, options: WatchOptions = {}) {
    this.#room = room;
    this.#options = options;
    this.#role = {
      type: 'watch',
      own: options.own ?? false,
      plan: () => this.#plan(),
      handleLink: (link) => this.#handleLink(link),
    };
  }

  get state(): WatchState {
    return this.#state;
  }

  get stream(): MediaStream | undefined {
    return this.#stream;
  }

  /** Who is to be shown, in a view of the stage. */
  get tiles(): readonly Tile[] {
    return this.#tiles;
  }

  on<Name extends keyof WatchEvents>(
    name: Name,
    listener: (value: WatchEvents[Name]) => void,
    signal?: AbortSignal,
  ): () => void {
    return this.#events.on(name, listener, signal);
  }

  /** Plays in this element from here on. The caller decides about `muted` and `play()`. */
  attach(element: HTMLMediaElement): void {
    this.#video = element;
    if (this.#stream) element.srcObject = this.#stream;
  }

  start(): void {
    if (this.#state.kind !== 'idle' && this.#state.kind !== 'failed') return;
    this.#running = new AbortController();
    this.#everConnected = false;
    this.#setState({ kind: 'connecting' });
    this.#room.on('info', () => this.#update(), this.#running.signal);
    this.#room.on('stage', () => this.#updateTiles(), this.#running.signal);
    this.#room.attach(this.#role);
  }

  stop(): void {
    this.#running.abort();
    this.#room.detach(this.#role);
    this.#peer?.close();
    this.#peer = undefined;
    this.#setState({ kind: 'idle' });
  }

  /** The highest layer that is received, counted from 0; `undefined` leaves the choice to what the link carries. */
  get limit(): number | undefined {
    return this.#limit;
  }

  /** Receives no layer above this one of any picture; `undefined` leaves the choice to what the link carries. */
  setLimit(layer: number | undefined): void {
    this.#limit = layer;
    this.#room.limit(layer);
  }

  /** Measures what arrives; `undefined` while not connected. */
  async stats(): Promise<ViewerStats | undefined> {
    const pc = this.#peer?.pc;
    return pc && this.#meter.read(await pc.getStats(), performance.now());
  }

  /** The browser's own figures; `undefined` while not connected. */
  async report(): Promise<RTCStatsReport | undefined> {
    return await this.#peer?.pc.getStats();
  }

  #plan(): PeerPlan {
    return {
      prepare: (pc) => {
        const { jitterBufferMs = 0 } = this.#options;
        const coming = new Reception(pc, this.#slots(), jitterBufferMs, () => this.#begin(coming));
        this.#coming = coming;
      },
      changeOffer: withStereo,
      changeAnswer: (answer) => answer,
    };
  }

  #slots(): SlotCount {
    const size = this.#options.stage ? (this.#room.info?.stage_size ?? 1) : 1;
    return { video: size, audio: Math.min(size, AUDIO_SLOTS) };
  }

  /** Shows a connection that carries something: until then the last picture of the one before stays. */
  #begin(reception: Reception): void {
    if (reception !== this.#coming) return;
    const isNew = reception !== this.#shown;
    this.#shown = reception;
    if (this.#options.stage) {
      if (isNew) this.#events.emit('sounds', reception.sounds);
      this.#updateTiles();
      return;
    }
    const tracks = [...reception.sounds, ...reception.pictures].flatMap((one) => one.getTracks());
    if (isNew || !this.#stream) {
      this.#stream = new MediaStream(tracks);
      if (this.#video) this.#video.srcObject = this.#stream;
      this.#events.emit('stream', this.#stream);
    } else {
      for (const track of tracks) this.#stream.addTrack(track);
    }
  }

  /** Shows whom the server says; until it has said so, what comes first. */
  #updateTiles(): void {
    const reception = this.#shown;
    if (!this.#options.stage || !reception) return;
    const { stage, state } = this.#room;
    const isHidden = !this.#options.own && state.kind === 'connected';
    const hidden = isHidden ? state.identity : undefined;
    const first = reception.pictures.find((stream) => reception.flows(stream));
    const tiles = reception.pictures.flatMap((stream, slot): Tile[] => {
      // A view of a single slot receives the program in it.
      const bound =
        reception.pictures.length === 1
          ? stage?.video.find((other) => other?.identity === stage.program)
          : stage?.video[slot];
      if (!bound && (stage?.video.length || stream !== first)) return [];
      if (bound && bound.identity === hidden) return [];
      const { identity, name = '', heights = [] } = bound ?? {};
      const program = identity !== undefined && identity === stage?.program;
      return [{ slot, identity, name, stream, program, heights }];
    });
    this.#tiles = tiles;
    this.#events.emit('tiles', tiles);
  }

  #handleLink(link: MediaLink): void {
    this.#link = link;
    if (link.kind === 'connected') {
      this.#everConnected = true;
      this.#peer?.close();
      this.#peer = link.peer;
      if (this.#limit !== undefined) this.#room.limit(this.#limit);
      this.#meter.reset();
      void link.peer.ended.then(() => this.#update());
    } else if (link.kind === 'ended') {
      this.#peer?.close();
      this.#peer = undefined;
    }
    this.#update();
  }

  #update(): void {
    if (this.#running.signal.aborted) return;
    const next = this.#derive();
    const { kind } = this.#state;
    const same =
      next.kind === kind && (kind === 'waiting' || kind === 'playing' || kind === 'paused');
    if (!same) this.#setState(next);
  }

  #derive(): WatchState {
    const link = this.#link;
    if (link.kind === 'ended') return { kind: 'failed', error: link.error };
    // The connection before may still play until its successor takes over.
    if (this.#peer?.flowing) {
      if (!this.#room.info?.live) return { kind: 'waiting' };
      return { kind: this.#room.info.paused ? 'paused' : 'playing' };
    }
    if (!this.#everConnected && link.kind === 'connecting') return { kind: 'connecting' };
    const error = link.kind === 'waiting' ? link.error : new FanlightError('connection_lost');
    const attempt = link.kind === 'connected' ? 0 : link.attempt;
    const retryAtMs = link.kind === 'waiting' ? link.retryAtMs : undefined;
    return { kind: 'reconnecting', attempt, retryAtMs, error };
  }

  #setState(state: WatchState): void {
    this.#state = state;
    this.#events.emit('state', state);
  }
}
