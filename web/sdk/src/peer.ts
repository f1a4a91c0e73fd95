import { FanlightError } from './errors.ts';
import { CHAT_CHANNEL, EVENTS_CHANNEL, type IceCredentials, type IceServer } from './protocol.ts';
import { iceFragment, withIceCredentials } from './sdp.ts';
import { abortable, deferred } from './wait.ts';

/** What one media connection is made of; the tracks are added by `prepare`. */
export interface PeerPlan {
  /** Adds transceivers to the new connection. */
  readonly prepare: (pc: RTCPeerConnection) => void;
  readonly changeOffer: (sdp: string) => string;
  readonly changeAnswer: (sdp: string) => string;
}

/** How a connection talks to the server. */
export interface Negotiation {
  /** Sends an offer and resolves with the answer. */
  readonly offer: (sdp: string) => Promise<string>;
  /** Sends the credentials of a restart offer and resolves with the server's; `undefined` when it has no such peer. */
  readonly restart: (fragment: string) => Promise<IceCredentials | undefined>;
}

/** One media connection to the server, from its offer to its end. It never reconnects: {@link Room} does. */
export class Peer {
  readonly pc: RTCPeerConnection;
  /** The channel `chat`; may not be open yet. */
  readonly chat: RTCDataChannel;
  /** The channel `events`; may not be open yet. */
  readonly events: RTCDataChannel;
  readonly #ended = deferred<FanlightError>();
  #patienceMs = DISCONNECTED_PATIENCE_MS;
  #impatience: ReturnType<typeof setTimeout> | undefined;
  readonly #plan: PeerPlan;
  readonly #negotiation: Negotiation;
  #restarting = false;

  private constructor(plan: PeerPlan, negotiation: Negotiation, iceServers: readonly IceServer[]) {
    this.#plan = plan;
    this.#negotiation = negotiation;
    this.pc = new RTCPeerConnection({
      iceServers: [...iceServers],
      bundlePolicy: 'max-bundle',
      rtcpMuxPolicy: 'require',
    });
    this.chat = this.pc.createDataChannel(CHAT_CHANNEL);
    this.events = this.pc.createDataChannel(EVENTS_CHANNEL);
    this.pc.addEventListener('connectionstatechange', () => this.#handleState());
    this.pc.addEventListener('iceconnectionstatechange', () => this.#handleState());
  }

  /**
   * Offers at once, without waiting for candidates: the server is ICE-lite and learns addresses from checks.
   * Resolves when picture and sound can flow. `announce` gets the connection while it is being made, in time to
   * hear the first message of its channels.
   *
   * @throws {@link FanlightError}; the reason of `signal` on abort.
   */
  static async connect(
    plan: PeerPlan,
    iceServers: readonly IceServer[],
    negotiation: Negotiation,
    announce: (peer: Peer) => void,
    signal: AbortSignal,
  ): Promise<Peer> {
    const peer = new Peer(plan, negotiation, iceServers);
    announce(peer);
    try {
      plan.prepare(peer.pc);
      const offer = await peer.pc.createOffer();
      const sdp = plan.changeOffer(offer.sdp ?? '');
      await peer.pc.setLocalDescription({ type: 'offer', sdp });
      const answer = await abortable(
        negotiation.offer(peer.pc.localDescription?.sdp ?? sdp),
        signal,
      );
      await peer.pc.setRemoteDescription({ type: 'answer', sdp: plan.changeAnswer(answer) });
      await peer.#connected(signal);
      return peer;
    } catch (error) {
      peer.close();
      throw error;
    }
  }

  /** Resolves with the reason once the connection is lost or closed. */
  get ended(): Promise<FanlightError> {
    return this.#ended.promise;
  }

  /** Whether the connection carries media at the moment. */
  get flowing(): boolean {
    return this.pc.connectionState === 'connected';
  }

  /** The network has changed: looks for a new way at once, and waits less long for an interruption to pass. */
  hurry(): void {
    this.#patienceMs = HURRIED_PATIENCE_MS;
    void this.#restart();
    clearTimeout(this.#impatience);
    this.#impatience = undefined;
    this.#handleState();
    setTimeout(() => {
      this.#patienceMs = DISCONNECTED_PATIENCE_MS;
    }, HURRY_MS);
  }

  close(): void {
    clearTimeout(this.#impatience);
    this.pc.close();
    this.#ended.resolve(new FanlightError('connection_lost'));
  }

  async #connected(signal: AbortSignal): Promise<void> {
    const connected = deferred<void>();
    const check = () => {
      if (this.flowing) connected.resolve();
    };
    this.pc.addEventListener('connectionstatechange', check);
    const timer = setTimeout(
      () => connected.reject(new FanlightError('media_unreachable')),
      CONNECT_TIMEOUT_MS,
    );
    void this.#ended.promise.then(() => connected.reject(new FanlightError('media_unreachable')));
    check();
    try {
      await abortable(connected.promise, signal);
    } finally {
      clearTimeout(timer);
      this.pc.removeEventListener('connectionstatechange', check);
    }
  }

  #handleState(): void {
    const { connectionState, iceConnectionState } = this.pc;
    const interrupted = iceConnectionState === 'disconnected' || iceConnectionState === 'failed';
    if (connectionState === 'closed' || (connectionState === 'failed' && !interrupted)) {
      this.close();
    } else if (interrupted) {
      this.#impatience ??= setTimeout(() => this.close(), this.#patienceMs);
      void this.#restart();
    } else {
      clearTimeout(this.#impatience);
      this.#impatience = undefined;
    }
  }

  /** Looks for a new way to the server; the media go on meanwhile on the old one, if that carries anything. */
  async #restart(): Promise<void> {
    const { pc } = this;
    const answer = pc.currentRemoteDescription?.sdp;
    if (this.#restarting || !answer || pc.signalingState !== 'stable') return;
    this.#restarting = true;
    try {
      const offer = await pc.createOffer({ iceRestart: true });
      const sdp = this.#plan.changeOffer(offer.sdp ?? '');
      await pc.setLocalDescription({ type: 'offer', sdp });
      const ice = await this.#negotiation.restart(iceFragment(sdp));
      if (ice) {
        await pc.setRemoteDescription({ type: 'answer', sdp: withIceCredentials(answer, ice) });
      } else {
        this.close();
      }
    } catch {
      // Without a way to the server there is nothing to be done: the end comes when the patience does.
    } finally {
      this.#restarting = false;
    }
  }
}

/** How long an interruption may last before a new connection is made. */
const DISCONNECTED_PATIENCE_MS = 3_000;
const HURRIED_PATIENCE_MS = 1_500;
const CONNECT_TIMEOUT_MS = 10_000;
const HURRY_MS = 15_000;
