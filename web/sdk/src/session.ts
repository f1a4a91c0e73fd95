import { Emitter } from './emitter.ts';
import { FanlightError, type FanlightErrorCode } from './errors.ts';
import { JsonError } from './json.ts';
import {
  CLOSE_CODE,
  type ClientMessage,
  type EgressJob,
  type IceCredentials,
  type Joined,
  type MediaRole,
  parseServerMessage,
  type Recording,
  type RoomInfo,
  type ServerEvent,
} from './protocol.ts';
import { abortable, type Deferred, deferred } from './wait.ts';

/** Who wants to enter which room. */
export interface JoinRequest {
  /** `ws://` or `wss://` address of the room. */
  readonly url: URL;
  readonly token?: string | undefined;
  readonly name?: string | undefined;
}

interface SessionEvents {
  room: RoomInfo;
  outputs: EgressJob[];
  /** A recording can be played. */
  'recording-ready': Recording;
  /** The server has ended a media connection of this session, with its stable word for why. */
  'media-closed': { readonly media: MediaRole; readonly reason: string };
  /** Which layers of the published picture anybody wants, by position. */
  'wanted-layers': readonly boolean[];
  /** A refusal that answers no offer. */
  refused: FanlightError;
}

/** One signaling connection, from `join` to its end. It never reconnects: {@link Room} does. */
export class Session {
  readonly #socket: WebSocket;
  readonly #events = new Emitter<SessionEvents>();
  readonly #closed = deferred<FanlightError>();
  readonly #joining = deferred<Joined>();
  /** Offers that wait for their answers, which come in the order of the offers. */
  readonly #offers: Deferred<string>[] = [];
  readonly #restarts = new Map<MediaRole, Deferred<IceCredentials | undefined>>();
  #joined: Joined | undefined;
  #over = false;
  #heardAt = performance.now();
  #silence: ReturnType<typeof setTimeout> | undefined;
  #keepAlive: ReturnType<typeof setInterval> | undefined;

  private constructor(request: JoinRequest) {
    this.#socket = new WebSocket(request.url);
    this.#joining.promise.catch(() => {});
    this.#socket.addEventListener('open', () => {
      const { token, name } = request;
      this.#send({ type: 'join', ...(token && { token }), ...(name && { name }) });
    });
    this.#socket.addEventListener('message', (event) => this.#handleMessage(event.data));
    this.#socket.addEventListener('close', (event) => this.#end(this.#lossReason(event.code)));
  }

  /**
   * Connects and joins.
   *
   * @throws {@link FanlightError} when the server is away, silent or refuses; the reason of `signal` on abort.
   */
  static async open(request: JoinRequest, signal: AbortSignal): Promise<Session> {
    const session = new Session(request);
    const timer = setTimeout(() => session.#end(new FanlightError('timeout')), JOIN_TIMEOUT_MS);
    try {
      await abortable(session.#joining.promise, signal);
    } catch (error) {
      session.close();
      throw error;
    } finally {
      clearTimeout(timer);
    }
    session.#keepAlive = setInterval(() => session.probe(SILENCE_MS), PING_EVERY_MS);
    return session;
  }

  /** The answer to `join`. */
  get joined(): Joined {
    if (!this.#joined) throw new FanlightError('internal', 'The session has not joined.');
    return this.#joined;
  }

  /** Whether the session is over. */
  get over(): boolean {
    return this.#over;
  }

  /** Resolves with the reason once the session is over. */
  get closed(): Promise<FanlightError> {
    return this.#closed.promise;
  }

  on<Name extends keyof SessionEvents>(
    name: Name,
    listener: (value: SessionEvents[Name]) => void,
    signal?: AbortSignal,
  ): void {
    this.#events.on(name, listener, signal);
  }

  /** Sends an offer and resolves with the answer's SDP. */
  async offer(type: MediaRole, sdp: string, own: boolean, signal: AbortSignal): Promise<string> {
    if (this.#over) throw new FanlightError('connection_lost');
    const offer = deferred<string>();
    this.#offers.push(offer);
    this.#send(type === 'watch' && own ? { type, sdp, own } : { type, sdp });
    const timer = setTimeout(() => offer.reject(new FanlightError('timeout')), ANSWER_TIMEOUT_MS);
    try {
      return await abortable(offer.promise, signal);
    } finally {
      // An abandoned offer keeps its place: its answer will still come.
      clearTimeout(timer);
      offer.promise.catch(() => {});
    }
  }

  setPaused(paused: boolean): void {
    this.#send({ type: 'set_paused', paused });
  }

  /** Sends the credentials of a restart offer and resolves with the server's; `undefined` when it has no such connection. */
  async restartIce(
    media: MediaRole,
    fragment: string,
    signal: AbortSignal,
  ): Promise<IceCredentials | undefined> {
    if (this.#over) throw new FanlightError('connection_lost');
    const restart = deferred<IceCredentials | undefined>();
    this.#restarts.get(media)?.reject(new FanlightError('connection_lost'));
    this.#restarts.set(media, restart);
    this.#send({ type: 'restart_ice', media, fragment });
    const timer = setTimeout(() => restart.reject(new FanlightError('timeout')), ANSWER_TIMEOUT_MS);
    try {
      return await abortable(restart.promise, signal);
    } finally {
      clearTimeout(timer);
      restart.promise.catch(() => {});
    }
  }

  /** Tells how high the layers of the published picture are, the lowest first, and whether it is a shared screen. */
  setLayers(heights: readonly number[], screen: boolean): void {
    this.#send({ type: 'layers', heights: [...heights], screen });
  }

  /** Limits the layers that the watching connection receives; `undefined` lifts the limit. */
  limit(layer: number | undefined): void {
    this.#send({ type: 'limit', layer: layer ?? null });
  }

  /** Ends one of this session's media connections; the session stays. */
  stopMedia(media: MediaRole): void {
    this.#send({ type: 'stop', media });
  }

  /** Asks for a sign of life; ends the session when none comes within `patienceMs`. */
  probe(patienceMs: number): void {
    const askedAt = performance.now();
    this.#send({ type: 'ping' });
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => {
      if (this.#heardAt < askedAt) this.#end(new FanlightError('connection_lost'));
    }, patienceMs);
  }

  close(): void {
    this.#end(new FanlightError('connection_lost'));
  }

  #send(message: ClientMessage): void {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  #handleMessage(data: unknown): void {
    this.#heardAt = performance.now();
    let message: ServerEvent | undefined;
    try {
      message = parseServerMessage(String(data));
    } catch (error) {
      if (!(error instanceof JsonError)) throw error;
      console.warn('fanlight: ignored a message:', error.message);
    }
    if (message) this.#handle(message);
  }

  #handle(message: ServerEvent): void {
    switch (message.type) {
      case 'joined':
        this.#joined = message;
        this.#joining.resolve(message);
        return;
      case 'answer':
        this.#offers.shift()?.resolve(message.sdp);
        return;
      case 'error':
        this.#refuse(new FanlightError(message.code, message.message));
        return;
      case 'room':
        this.#events.emit('room', message.room);
        return;
      case 'outputs':
        this.#events.emit('outputs', message.jobs);
        return;
      case 'recording_ready':
        this.#events.emit('recording-ready', message.recording);
        return;
      case 'media_closed':
        this.#events.emit('media-closed', message);
        return;
      case 'ice_restarted':
        this.#restarts.get(message.media)?.resolve(message.ice ?? undefined);
        return;
      case 'wanted_layers':
        this.#events.emit('wanted-layers', message.wanted);
        return;
      case 'pong':
        return;
    }
  }

  #refuse(error: FanlightError): void {
    const offer = this.#offers.shift();
    if (!this.#joined) this.#end(error);
    else if (offer) offer.reject(error);
    else this.#events.emit('refused', error);
  }

  #lossReason(closeCode: number): FanlightError {
    const lost = this.#joined ? 'connection_lost' : 'server_unreachable';
    return new FanlightError(closeReasons.get(closeCode) ?? lost);
  }

  #end(reason: FanlightError): void {
    if (this.#over) return;
    this.#over = true;
    clearInterval(this.#keepAlive);
    clearTimeout(this.#silence);
    this.#socket.close();
    this.#joining.reject(reason);
    for (const offer of this.#offers.splice(0)) offer.reject(reason);
    for (const restart of this.#restarts.values()) restart.reject(reason);
    this.#closed.resolve(reason);
  }
}

/** What the server's close codes mean for whoever wants to join again; the others are a lost connection. */
const closeReasons: ReadonlyMap<number, FanlightErrorCode> = new Map([
  [CLOSE_CODE.badMessages, 'bad_message'],
  [CLOSE_CODE.token, 'token_invalid'],
  [CLOSE_CODE.notAllowed, 'not_allowed'],
  [CLOSE_CODE.roomUnknown, 'room_unknown'],
  [CLOSE_CODE.serverFull, 'server_full'],
]);
const JOIN_TIMEOUT_MS = 10_000;
const ANSWER_TIMEOUT_MS = 10_000;
/** The server closes a session silent for 45 s. */
const PING_EVERY_MS = 15_000;
const SILENCE_MS = 10_000;
