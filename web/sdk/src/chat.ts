import { Emitter } from './emitter.ts';
import { FanlightError } from './errors.ts';
import { JsonError } from './json.ts';
import { type ChatEvent, type ChatMessage, type ChatRequest, parseChatEvent } from './protocol.ts';
import { abortable, type Deferred, deferred } from './wait.ts';

/** Whether messages can be sent at the moment. */
export type ChatState = 'closed' | 'open';

interface ChatEvents {
  state: ChatState;
  /** All messages that are kept, oldest first; a new list each time. */
  messages: readonly ChatMessage[];
}

/** A refused chat message, with the time to wait when it came too fast. */
export class ChatRefusal extends FanlightError {
  readonly retryAfterMs: number | undefined;

  constructor(event: Extract<ChatEvent, { type: 'refused' }>) {
    super(event.code, event.message);
    this.retryAfterMs = event.retry_after_ms;
  }
}

/** The chat of a room. It outlives reconnections: each new data channel replays the recent messages. */
export class Chat {
  readonly #events = new Emitter<ChatEvents>();
  readonly #pending = new Map<string, Deferred<ChatMessage>>();
  /** One of each media connection, the newest last: messages come on all of them, and go out on one. */
  readonly #channels = new Set<RTCDataChannel>();
  #messages: readonly ChatMessage[] = [];
  #nonce = 0;

  get state(): ChatState {
    return this.#open ? 'open' : 'closed';
  }

  /** The newest messages, oldest first, at most {@link KEPT_MESSAGES}. */
  get messages(): readonly ChatMessage[] {
    return this.#messages;
  }

  on<Name extends keyof ChatEvents>(
    name: Name,
    listener: (value: ChatEvents[Name]) => void,
    signal?: AbortSignal,
  ): () => void {
    return this.#events.on(name, listener, signal);
  }

  /**
   * Says something and resolves with the message as everybody sees it.
   *
   * @throws {@link ChatRefusal} when the server does not take it, {@link FanlightError} when it cannot be reached.
   */
  async say(
    text: string,
    signal: AbortSignal = AbortSignal.timeout(SAY_TIMEOUT_MS),
  ): Promise<ChatMessage> {
    const channel = this.#open;
    if (!channel) throw new FanlightError('connection_lost');
    this.#nonce += 1;
    const nonce = `${this.#nonce}`;
    const answer = deferred<ChatMessage>();
    this.#pending.set(nonce, answer);
    try {
      channel.send(JSON.stringify({ type: 'say', text, nonce } satisfies ChatRequest));
      return await abortable(answer.promise, signal);
    } catch (error) {
      throw FanlightError.from(error);
    } finally {
      this.#pending.delete(nonce);
    }
  }

  /** Talks over this channel too, until it is closed. Called by the room for each new connection. */
  bind(channel: RTCDataChannel): void {
    // A connection that this side closes does not say so on its channels.
    for (const old of this.#channels) {
      if (old.readyState === 'closed') this.#channels.delete(old);
    }
    this.#channels.add(channel);
    channel.addEventListener('open', () => this.#announce());
    channel.addEventListener('close', () => this.#release(channel));
    channel.addEventListener('message', (event) => this.#handleMessage(event.data));
    this.#announce();
  }

  get #open(): RTCDataChannel | undefined {
    return [...this.#channels].findLast((channel) => channel.readyState === 'open');
  }

  #release(channel: RTCDataChannel): void {
    this.#channels.delete(channel);
    this.#announce();
  }

  #announce(): void {
    if (this.state === 'closed') {
      for (const answer of this.#pending.values()) {
        answer.reject(new FanlightError('connection_lost'));
      }
    }
    this.#events.emit('state', this.state);
  }

  #handleMessage(data: unknown): void {
    let event: ChatEvent | undefined;
    try {
      event = parseChatEvent(String(data));
    } catch (error) {
      if (!(error instanceof JsonError)) throw error;
      console.warn('fanlight: ignored a chat message:', error.message);
    }
    if (event) this.#handle(event);
  }

  #handle(event: ChatEvent): void {
    switch (event.type) {
      case 'history':
        // A long history comes in parts, and again with each new channel.
        this.#keep(event.messages);
        return;
      case 'message':
        this.#keep([event.message]);
        if (event.nonce !== undefined) this.#pending.get(event.nonce)?.resolve(event.message);
        return;
      case 'refused':
        if (event.nonce !== undefined)
          this.#pending.get(event.nonce)?.reject(new ChatRefusal(event));
        return;
    }
  }

  /** Adds these to the messages there are; ids count up within a room. */
  #keep(messages: readonly ChatMessage[]): void {
    const all = [...this.#messages, ...messages];
    const byId = new Map(all.map((message) => [message.id, message]));
    this.#messages = [...byId.values()].sort((a, b) => a.id - b.id).slice(-KEPT_MESSAGES);
    this.#events.emit('messages', this.#messages);
  }
}

const KEPT_MESSAGES = 500;
const SAY_TIMEOUT_MS = 8_000;
