/** Calls the listeners of typed events. A listener that throws does not keep the others from being called. */
export class Emitter<Events extends object> {
  readonly #listeners = new Map<keyof Events, Set<(value: never) => void>>();

  /** Adds a listener and returns the function that removes it; `signal` removes it too. */
  on<Name extends keyof Events>(
    name: Name,
    listener: (value: Events[Name]) => void,
    signal?: AbortSignal,
  ): () => void {
    let set = this.#listeners.get(name);
    if (!set) {
      set = new Set();
      this.#listeners.set(name, set);
    }
    const listeners = set;
    listeners.add(listener);
    const off = () => {
      listeners.delete(listener);
    };
    signal?.addEventListener('abort', off, { once: true });
    return off;
  }

  emit<Name extends keyof Events>(name: Name, value: Events[Name]): void {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) {
      try {
        (listener as (value: Events[Name]) => void)(value);
      } catch (error) {
        reportError(error);
      }
    }
  }
}
