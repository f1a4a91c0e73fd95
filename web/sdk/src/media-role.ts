import type { FanlightError } from './errors.ts';
import type { Peer, PeerPlan } from './peer.ts';

/** How a room's media connection is doing. */
export type MediaLink =
  | { readonly kind: 'connecting'; readonly attempt: number }
  | { readonly kind: 'connected'; readonly peer: Peer }
  | {
      readonly kind: 'waiting';
      readonly attempt: number;
      readonly retryAtMs: number;
      readonly error: FanlightError;
    }
  | { readonly kind: 'ended'; readonly error: FanlightError };

/** What a room keeps connected for somebody: a broadcast, a view, or the chat alone. */
export interface MediaRole {
  readonly type: 'publish' | 'watch';
  /** Whether to receive what the same participant sends. */
  readonly own?: boolean;
  /** Says what the next connection is made of. */
  plan(): PeerPlan;
  /** Hears how the connection is doing, and owns each peer it is told of: closes the ones it no longer needs. */
  handleLink(link: MediaLink): void;
}

/** A connection without picture or sound, which carries only the data channels. */
export class DataOnly implements MediaRole {
  readonly type = 'watch';
  #peer: Peer | undefined;

  plan(): PeerPlan {
    return { prepare: () => {}, changeOffer: (sdp) => sdp, changeAnswer: (sdp) => sdp };
  }

  handleLink(link: MediaLink): void {
    if (link.kind === 'connected' || link.kind === 'ended') {
      this.#peer?.close();
      this.#peer = link.kind === 'connected' ? link.peer : undefined;
    }
  }

  close(): void {
    this.#peer?.close();
    this.#peer = undefined;
  }
}
