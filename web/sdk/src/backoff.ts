/** Limits of a {@link Backoff}. */
export interface BackoffLimits {
  /** Length of the first wait. */
  readonly firstMs: number;
  /** No wait is longer. */
  readonly capMs: number;
}

/** Waits that double up to a cap, each shortened by up to half at random, so that a crowd does not return at once. */
export class Backoff {
  readonly #limits: BackoffLimits;
  readonly #random: () => number;
  #attempt = 0;

  constructor(limits: BackoffLimits, random: () => number = Math.random) {
    this.#limits = limits;
    this.#random = random;
  }

  /** How many waits were handed out since the last reset. */
  get attempt(): number {
    return this.#attempt;
  }

  /** Returns the next wait in milliseconds. */
  next(): number {
    const full = Math.min(this.#limits.capMs, this.#limits.firstMs * 2 ** this.#attempt);
    this.#attempt += 1;
    return full * (0.5 + this.#random() / 2);
  }

  reset(): void {
    this.#attempt = 0;
  }
}
