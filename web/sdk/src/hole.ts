/** A stretch of media that a player has, in seconds. */
export interface Stretch {
  readonly start: number;
  readonly end: number;
}

/**
 * Finds a player that stands before a hole in what it has: players now and then take for loaded what is missing, and
 * wait for it for ever, while newer media piles up.
 */
export class HoleWatch {
  #stoodAt: number | undefined;
  #sinceMs = 0;

  /**
   * Takes in where the player is, and returns where to go on, if it does not by itself.
   *
   * @param time Where the player is, in seconds.
   * @param buffered What it has, in order.
   */
  look(time: number, buffered: readonly Stretch[], nowMs: number): number | undefined {
    if (time !== this.#stoodAt) {
      this.#stoodAt = time;
      this.#sinceMs = nowMs;
      return undefined;
    }
    // On a slow link nothing is there yet: that is waited for.
    const behind = buffered.find(({ start, end }) => start > time && end - start >= WORTH_S);
    const inside = buffered.some(({ start, end }) => start <= time && time < end - NOTHING_S);
    if (!behind || inside || nowMs - this.#sinceMs < PATIENCE_MS) return undefined;
    this.reset();
    return behind.start + NOTHING_S;
  }

  /** Forgets where the player stood, as it may stand when it is paused. */
  reset(): void {
    this.#stoodAt = undefined;
  }
}

/** How long a player may take to get over a hole by itself. */
const PATIENCE_MS = 1_500;
/** How much media there has to be behind the hole. */
const WORTH_S = 0.5;
/** Less than a picture lasts. */
const NOTHING_S = 0.01;
