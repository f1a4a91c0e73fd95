import { Backoff } from './backoff.ts';
import { Chat } from './chat.ts';
import { Emitter } from './emitter.ts';
import { FanlightError, type FanlightErrorCode } from './errors.ts';
import { JsonError } from './json.ts';
import { DataOnly, type MediaRole } from './media-role.ts';
import { Peer } from './peer.ts';
import {
  type EgressJob,
  type Grants,
  parseRoomEvent,
  type Recording,
  type RoomEvent,
  type RoomInfo,
} from './protocol.ts';
import { Session } from './session.ts';
import { abortable, anySignal, sleep } from './wait.ts';

/** Which room to enter, and as whom. */
export interface RoomOptions {
  /** The server's address; the page's own by default. */
  readonly server?: string | URL;
  /** The room's slug. */
  readonly room: string;
  /** A token (JWT). Without one: a guest. */
  readonly token?: string | undefined;
  /** The name shown in chat. */
  readonly name?: string | undefined;
  /** Keeps the chat connected while neither broadcasting nor watching. */
  readonly chatAlways?: boolean;
}

/** How the connection to the room is doing. */
export type RoomState =
  | { readonly kind: 'connecting'; readonly attempt: number }
  | {
      readonly kind: 'connected';
      readonly identity: string;
      readonly name: string;
      readonly grants: Grants;
    }
  | {
      readonly kind: 'waiting';
      readonly attempt: number;
      /** When the next attempt starts, by `Date.now()`. */
      readonly retryAtMs: number;
      readonly error: FanlightError;
    }
  | { readonly kind: 'closed'; readonly error: FanlightError | undefined };

/** What the slots of a view carry, as the server says. */
export type StageSlots = Omit<Extract<RoomEvent, { type: 'stage' }>, 'type'>;

interface RoomEvents {
  state: RoomState;
  info: RoomInfo;
  /** What the slots of a view carry has changed. */
  stage: StageSlots;
  /** Which layers of one's own picture anybody wants, by position. */
  'wanted-layers': readonly boolean[];
  outputs: readonly EgressJob[];
  /** A recording can be played; only told with the grant `egress`. */
  'recording-ready': Recording;
  /** A request was refused; the room goes on. */
  refused: FanlightError;
}

/**
 * A room that one has entered. It stays entered through network changes and restarts of the server until
 * {@link Room.leave}, and keeps the attached media connections going, one that publishes and one that watches: every
 * decision to reconnect is made here.
 */
export class Room {
  readonly slug: string;
  readonly chat = new Chat();
  readonly #url: URL;
  readonly #chatAlways: boolean;
  readonly #events = new Emitter<RoomEvents>();
  readonly #left = new AbortController();
  readonly #wakers = new Set<() => void>();
  #token: string | undefined;
  #name: string | undefined;
  #state: RoomState = { kind: 'connecting', attempt: 0 };
  #info: RoomInfo | undefined;
  #stage: StageSlots | undefined;
  #outputs: readonly EgressJob[] = [];
  #session: Session | undefined;
  readonly #kept = new Map<MediaRole['type'], Kept>();
  readonly #peers = new Set<Peer>();

  /** Starts entering the room. */
  constructor(options: RoomOptions) {
    this.slug = options.room;
    this.#url = socketUrl(options.server ?? location.origin, options.room);
    this.#token = options.token;
    this.#name = options.name;
    this.#chatAlways = options.chatAlways ?? false;
    this.#watchNetwork();
    void this.#keepSession();
    this.#keepChat();
  }

  get state(): RoomState {
    return this.#state;
  }

  /** The room as last seen; `undefined` before the first connection. */
  get info(): RoomInfo | undefined {
    return this.#info;
  }

  /** The token to come back with as the same person: the one given, or what the server made of it. */
  get token(): string | undefined {
    return this.#token;
  }

  /** What the slots of a view carry, as last said; `undefined` before the first connection. */
  get stage(): StageSlots | undefined {
    return this.#stage;
  }

  /** The egress jobs as last seen; empty without the grant `egress`. */
  get outputs(): readonly EgressJob[] {
    return this.#outputs;
  }

  on<Name extends keyof RoomEvents>(
    name: Name,
    listener: (value: RoomEvents[Name]) => void,
    signal?: AbortSignal,
  ): () => void {
    return this.#events.on(name, listener, signal);
  }

  /** Changes the name shown in chat, by joining again. */
  rename(name: string): void {
    this.#name = name;
    this.#session?.close();
    this.#wake();
  }

  /** Tries to connect at once instead of at the end of the wait. */
  retryNow(): void {
    this.#wake();
  }

  /** Leaves for good. */
  leave(): void {
    this.#left.abort(new DOMException('left the room', 'AbortError'));
    for (const { role, stop } of this.#kept.values()) {
      stop.abort(this.#left.signal.reason);
      role.handleLink({ kind: 'ended', error: new FanlightError('connection_lost') });
    }
    this.#kept.clear();
    this.#session?.close();
    this.#setState({ kind: 'closed', error: undefined });
  }

  /** Keeps this role's media connected, in place of the one before of its type. For `GoLive` and `Watch`. */
  attach(role: MediaRole): void {
    for (const { role: other } of this.#kept.values()) {
      if (other instanceof DataOnly) this.#drop(other);
    }
    this.#keep(role);
  }

  /** Makes the role's connection anew, because what it consists of has changed. */
  renew(role: MediaRole): void {
    if (this.#keeps(role)) this.#keep(role);
  }

  /** Limits the layers that are received; `undefined` lifts the limit. For `Watch`. */
  limit(layer: number | undefined): void {
    this.#session?.limit(layer);
  }

  /** Ends the role's media, here and on the server. */
  detach(role: MediaRole): void {
    if (!this.#keeps(role)) return;
    this.#session?.stopMedia(role.type);
    this.#drop(role);
    this.#keepChat();
  }

  /** Tells how high the layers of one's own picture are, the lowest first, and whether it is a shared screen. */
  setLayers(heights: readonly number[], screen: boolean): void {
    this.#session?.setLayers(heights, screen);
  }

  /** Tells everybody that the broadcast is paused or goes on. */
  setPaused(paused: boolean): void {
    this.#session?.setPaused(paused);
  }

  #keeps(role: MediaRole): boolean {
    return this.#kept.get(role.type)?.role === role;
  }

  /** Keeps nothing for this role any more. */
  #drop(role: MediaRole): void {
    if (!this.#keeps(role)) return;
    this.#kept.get(role.type)?.stop.abort(replaced());
    this.#kept.delete(role.type);
    if (role instanceof DataOnly) role.close();
  }

  /** Enters, and enters again whenever the session is lost, until left or refused for good. */
  async #keepSession(): Promise<void> {
    const { signal } = this.#left;
    const backoff = new Backoff(SESSION_WAITS);
    while (!signal.aborted) {
      this.#setState({ kind: 'connecting', attempt: backoff.attempt });
      const startedAt = performance.now();
      let error: FanlightError;
      try {
        this.#session = await this.#join(signal);
        error = await this.#session.closed;
      } catch (cause) {
        if (signal.aborted) return;
        error = FanlightError.from(cause);
      }
      this.#session = undefined;
      if (signal.aborted) return;
      if (!error.passing) {
        this.#setState({ kind: 'closed', error });
        for (const { role } of this.#kept.values()) role.handleLink({ kind: 'ended', error });
        return;
      }
      if (performance.now() - startedAt > STEADY_MS) backoff.reset();
      await this.#pause(backoff, signal, (attempt, retryAtMs) =>
        this.#setState({ kind: 'waiting', attempt, retryAtMs, error }),
      );
    }
  }

  async #join(signal: AbortSignal): Promise<Session> {
    const session = await Session.open(
      { url: this.#url, token: this.#token, name: this.#name },
      signal,
    );
    const { identity, name, grants, room, guest_token } = session.joined;
    this.#token = guest_token ?? this.#token;
    session.on('room', (info) => this.#setInfo(info));
    session.on('outputs', (jobs) => this.#setOutputs(jobs));
    session.on('recording-ready', (recording) => this.#events.emit('recording-ready', recording));
    session.on('wanted-layers', (wanted) => this.#events.emit('wanted-layers', wanted));
    session.on('refused', (error) => this.#events.emit('refused', error));
    this.#setInfo(room);
    this.#session = session;
    this.#setState({ kind: 'connected', identity, name, grants });
    return session;
  }

  /** Keeps this role's media connected from here on, and no longer the one before of its type. */
  #keep(role: MediaRole): void {
    this.#kept.get(role.type)?.stop.abort(replaced());
    const stop = new AbortController();
    const signal = anySignal([stop.signal, this.#left.signal]);
    if (signal.aborted) return;
    const kept: Kept = { role, stop, isConnected: false };
    this.#kept.set(role.type, kept);
    void this.#keepMedia(kept, signal);
  }

  /** Keeps the chat alone connected while there is no media to carry it. */
  #keepChat(): void {
    if (this.#chatAlways && this.#kept.size === 0) this.#keep(new DataOnly());
  }

  /** Connects the role's media, and again whenever it is lost, until aborted or refused for good. */
  async #keepMedia(kept: Kept, signal: AbortSignal): Promise<void> {
    const { role } = kept;
    const backoff = new Backoff(MEDIA_WAITS);
    let lostAt: number | undefined;
    while (!signal.aborted) {
      let session: Session | undefined;
      let error: FanlightError;
      try {
        session = await this.#whenConnected(signal);
        role.handleLink({ kind: 'connecting', attempt: backoff.attempt });
        error = await this.#runMedia(kept, session, backoff, signal);
      } catch (cause) {
        error = FanlightError.from(cause);
      }
      if (signal.aborted) return;
      if (kept.isConnected) lostAt = error.passing ? performance.now() : undefined;
      kept.isConnected = false;
      if (session?.over) continue;
      // After a restart of the server guests may be back before the host.
      const sinceLost =
        lostAt === undefined ? Number.POSITIVE_INFINITY : performance.now() - lostAt;
      const mayOpen = error.code === 'stage_closed' && sinceLost < HOST_RETURNS_MS;
      if (!error.passing && !mayOpen) {
        role.handleLink({ kind: 'ended', error });
        this.#drop(role);
        this.#keepChat();
        return;
      }
      await this.#pause(backoff, signal, (attempt, retryAtMs) =>
        role.handleLink({ kind: 'waiting', attempt, retryAtMs, error }),
      );
    }
  }

  /** Makes one media connection and returns why it ended. */
  async #runMedia(
    kept: Kept,
    session: Session,
    backoff: Backoff,
    signal: AbortSignal,
  ): Promise<FanlightError> {
    const { role } = kept;
    const attempt = new AbortController();
    const both = anySignal([attempt.signal, signal]);
    const end = (error: FanlightError) => attempt.abort(error);
    void session.closed.then(end);
    const startedAt = performance.now();
    try {
      const peer = await Peer.connect(
        role.plan(),
        session.joined.ice_servers,
        {
          restart: (fragment) => session.restartIce(role.type, fragment, both),
          offer: async (sdp) => {
            const answer = await session.offer(role.type, sdp, role.own ?? false, both);
            // What ended before the answer was the connection before.
            session.on(
              'media-closed',
              ({ media, reason }) => {
                if (media === role.type) end(mediaClosed(reason));
              },
              both,
            );
            return answer;
          },
        },
        (early) => this.#bind(early),
        both,
      );
      kept.isConnected = true;
      role.handleLink({ kind: 'connected', peer });
      return await abortable(peer.ended, both);
    } finally {
      if (performance.now() - startedAt > STEADY_MS) backoff.reset();
      end(new FanlightError('connection_lost'));
    }
  }

  /** Listens to the data channels of a connection that is being made. */
  #bind(peer: Peer): void {
    this.#peers.add(peer);
    void peer.ended.then(() => this.#peers.delete(peer));
    this.chat.bind(peer.chat);
    peer.events.addEventListener('message', ({ data }) => {
      try {
        this.#handleEvent(parseRoomEvent(String(data)));
      } catch (error) {
        if (!(error instanceof JsonError)) throw error;
        console.warn('fanlight: ignored an event:', error.message);
      }
    });
  }

  #handleEvent(event: RoomEvent | undefined): void {
    if (event?.type === 'room') {
      this.#setInfo(event.room);
    } else if (event?.type === 'stage') {
      const { video, audio, program } = event;
      this.#stage = { video, audio, program };
      this.#events.emit('stage', this.#stage);
    }
  }

  /** Waits for a session that is joined. */
  #whenConnected(signal: AbortSignal): Promise<Session> {
    return new Promise((resolve, reject) => {
      const settled = new AbortController();
      const check = () => {
        if (!this.#session || this.#session.over || this.#state.kind !== 'connected') return;
        settled.abort();
        resolve(this.#session);
      };
      this.#events.on('state', check, settled.signal);
      signal.addEventListener('abort', () => reject(signal.reason), {
        once: true,
        signal: settled.signal,
      });
      check();
    });
  }

  /** Waits before the next attempt, or until something suggests that it may succeed. */
  async #pause(
    backoff: Backoff,
    signal: AbortSignal,
    announce: (attempt: number, retryAtMs: number) => void,
  ): Promise<void> {
    const attempt = backoff.attempt + 1;
    const waitMs = backoff.next();
    announce(attempt, Date.now() + waitMs);
    const woken = new AbortController();
    const wake = () => woken.abort();
    this.#wakers.add(wake);
    // Both ways out are normal: the callers look at their own signal.
    await sleep(waitMs, anySignal([woken.signal, signal])).catch(() => {});
    this.#wakers.delete(wake);
  }

  #wake(): void {
    for (const wake of [...this.#wakers]) wake();
  }

  /** Reacts at once to what the browser knows: the network is back or another one, the page is looked at again. */
  #watchNetwork(): void {
    const { signal } = this.#left;
    const changed = () => {
      this.#wake();
      this.#session?.probe(PROBE_MS);
      for (const peer of this.#peers) peer.hurry();
    };
    const lookedAt = () => {
      if (document.visibilityState !== 'visible') return;
      this.#wake();
      this.#session?.probe(PROBE_MS);
    };
    window.addEventListener('online', changed, { signal });
    networkInformation()?.addEventListener('change', changed, { signal });
    document.addEventListener('visibilitychange', lookedAt, { signal });
    window.addEventListener('pageshow', lookedAt, { signal });
  }

  #setState(state: RoomState): void {
    this.#state = state;
    this.#events.emit('state', state);
  }

  #setInfo(info: RoomInfo): void {
    this.#info = info;
    this.#events.emit('info', info);
  }

  #setOutputs(outputs: readonly EgressJob[]): void {
    this.#outputs = outputs;
    this.#events.emit('outputs', outputs);
  }
}

function socketUrl(server: string | URL, room: string): URL {
  const url = new URL(`/ws/${encodeURIComponent(room)}`, server);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  return url;
}

/** A role whose media is being kept connected. */
interface Kept {
  readonly role: MediaRole;
  readonly stop: AbortController;
  isConnected: boolean;
}

function replaced(): DOMException {
  return new DOMException('replaced by another connection', 'AbortError');
}

/** What the end of a connection on the server's side means. */
function mediaClosed(reason: string): FanlightError {
  return new FanlightError(endings.get(reason) ?? 'connection_lost');
}

const endings: ReadonlyMap<string, FanlightErrorCode> = new Map([
  // By another connection of the same broadcaster: offering again would only take turns with it.
  ['replaced', 'taken_over'],
  ['removed', 'removed_from_stage'],
  ['stage_closed', 'stage_closed'],
]);

/** The Network Information API, which only some browsers have and the DOM types do not know. */
function networkInformation(): EventTarget | undefined {
  const { connection } = navigator as { connection?: unknown };
  return connection instanceof EventTarget ? connection : undefined;
}

const SESSION_WAITS = { firstMs: 250, capMs: 8_000 };
const MEDIA_WAITS = { firstMs: 200, capMs: 8_000 };
/** A connection that held this long was a good one: the next wait is short again. */
const STEADY_MS = 10_000;
/** How long a guest whose connection was lost waits for a host who was lost as well. */
const HOST_RETURNS_MS = 30_000;
/** How long the server may take for a sign of life after the network has changed. */
const PROBE_MS = 3_000;
