/** What to try with a player that stands: another place in what it has, or a new player. */
export type Remedy = 'seek' | 'renew';

/**
 * Finds a player that stands still for longer than any player needs to help itself, and says what to try: to seek, and
 * if that does not help to begin anew, as a page that is opened does. Ever more rarely, until it has played for a while.
 */
export class StandstillWatch {
  #at: number | undefined;
  #stoodSinceMs = 0;
  #movedSinceMs: number | undefined;
  #tries = 0;

  /**
   * Takes in where a player is that should play, about once a second. Returns what to try, until it is said to have
   * been {@link tried}.
   *
   * @param time Where the player is, in seconds.
   */
  look(time: number, nowMs: number): Remedy | undefined {
    if (time !== this.#at) {
      if (this.#at !== undefined) this.#movedSinceMs ??= nowMs;
      if (nowMs - (this.#movedSinceMs ?? nowMs) >= STEADY_MS) this.#tries = 0;
      this.#at = time;
      this.#stoodSinceMs = nowMs;
      return undefined;
    }
    this.#movedSinceMs = undefined;
    const patience = Math.min(PATIENCE_MS * 2 ** Math.max(0, this.#tries - 1), LONGEST_MS);
    if (nowMs - this.#stoodSinceMs < patience) return undefined;
    return this.#tries === 0 ? 'seek' : 'renew';
  }

  /** Returns for how long the player has stood, in milliseconds. */
  stoodMs(nowMs: number): number {
    return this.#at === undefined ? 0 : nowMs - this.#stoodSinceMs;
  }

  /** Says that the remedy was tried: it is given time to help. */
  tried(): void {
    this.#tries += 1;
    this.reset();
  }

  /** Forgets where the player stood, as it may stand when it is paused. */
  reset(): void {
    this.#at = undefined;
    this.#movedSinceMs = undefined;
  }
}

/** How long a player may take to go on by itself. */
const PATIENCE_MS = 7_000;
/** The longest time between two tries. */
const LONGEST_MS = 60_000;
/** A player that has gone on for so long is in order. */
const STEADY_MS = 10_000;
