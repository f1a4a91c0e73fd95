import { type EgressDestination, type EgressDestinationType, FanlightError } from '@fanlight/sdk';
import { isOver, isPaused, type Output, outputsOf } from '../outputs.ts';
import { isShared, type Shown, shownBy } from '../pictures.ts';
import type { Studio } from './studio.svelte.ts';

/** The outputs of the studio's room, and what the host does with them. What is refused is returned. */
export class Outputs {
  readonly #studio: Studio;
  /** Those whose end was asked for and has not been told yet. */
  #removing: readonly string[] = $state.raw([]);
  /** Failed ones that the host has put out of sight, while others of their job are still shown. */
  #dismissed: readonly string[] = $state.raw([]);
  /** What was entered in this tab: the server returns no keys, and what has failed can be begun anew with them. */
  readonly #entered = new Map<string, EgressDestination>();

  readonly all: readonly Output[] = $derived.by(() => {
    const { outputs, info } = this.#studio.view;
    const all = outputsOf(outputs, info?.stage ?? []);
    return all.filter(({ key }) => !this.#dismissed.includes(key));
  });
  readonly hls: Output | undefined = $derived.by(() => this.#first('hls'));
  readonly recording: Output | undefined = $derived.by(() => this.#first('recording'));
  readonly thumbnails: Output | undefined = $derived.by(() => this.#first('thumbnails'));
  /** Those without a switch. */
  readonly rows: readonly Output[] = $derived.by(() => {
    const switched = [this.hls?.key, this.recording?.key, this.thumbnails?.key];
    return this.all.filter(({ key }) => !switched.includes(key));
  });

  constructor(studio: Studio) {
    this.#studio = studio;
  }

  isEnding({ key, job, destination }: Output): boolean {
    const drains = job.state === 'draining' && !isPaused(job) && destination.state !== 'failed';
    return this.#removing.includes(key) || drains;
  }

  /** Whether it can be begun anew as it is. */
  isKnown({ key, job }: Output): boolean {
    return !isOver(job) || this.#entered.has(key);
  }

  async add(destination: EgressDestination, of: Shown): Promise<FanlightError | undefined> {
    return await attempt(() => this.#add(destination, of));
  }

  async remove(output: Output): Promise<FanlightError | undefined> {
    const { key, job, destination } = output;
    this.#removing = [...this.#removing, key];
    const refused = await attempt(async () => {
      const { api, slug } = this.#studio;
      const shared = job.destinations.some(
        ({ id, state }) => id !== destination.id && state !== 'ended',
      );
      if (isOver(job)) await this.#dismiss(output);
      else if (shared) await api.changeOutput(slug, job.id, { remove: [destination.id] });
      else await api.removeOutput(slug, job.id);
    });
    if (refused) this.#removing = this.#removing.filter((other) => other !== key);
    return refused;
  }

  /** Tries it again as it is. */
  async retry(output: Output): Promise<FanlightError | undefined> {
    const { key, job, destination } = output;
    const entered = this.#entered.get(key);
    if (isOver(job)) return entered && (await this.replace(output, entered));
    const { api, slug } = this.#studio;
    return await attempt(() => api.changeOutput(slug, job.id, { retry: [destination.id] }));
  }

  /** Sends to `by` instead, what `output` was to show. */
  async replace(output: Output, by: EgressDestination): Promise<FanlightError | undefined> {
    return await attempt(async () => {
      if (!isOver(output.job) && (await this.#change(output, by))) return;
      await this.#add(by, shownBy(output.job));
      await this.#dismiss(output);
    });
  }

  /** Returns the output of that type which a switch stands for: the first that was not given up. */
  #first(type: EgressDestinationType): Output | undefined {
    const those = this.all.filter(({ destination }) => destination.type === type);
    return (
      those.find(({ job, destination }) => !isOver(job) && destination.state !== 'failed') ??
      those[0]
    );
  }

  async #add(destination: EgressDestination, of: Shown): Promise<void> {
    const { api, slug, view } = this.#studio;
    const shared = view.outputs.find((job) => isShared(job, of));
    if (shared) {
      await api.changeOutput(slug, shared.id, { add: [destination] });
      return;
    }
    const { id, destinations } = await api.addOutput(slug, [destination], of);
    for (const made of destinations) this.#entered.set(`${id}/${made.id}`, destination);
  }

  /** Returns whether it could be changed: it may have been given up meanwhile, and its job with it. */
  async #change({ job, destination }: Output, by: EgressDestination): Promise<boolean> {
    const { api, slug } = this.#studio;
    try {
      await api.changeOutput(slug, job.id, { remove: [destination.id], add: [by] });
      return true;
    } catch (error) {
      if (error instanceof FanlightError && error.code === 'egress_over') return false;
      throw error;
    }
  }

  /** Forgets one that was given up: the job, once nothing else of it is shown. */
  async #dismiss({ key, job }: Output): Promise<void> {
    this.#entered.delete(key);
    const others = this.all.some((other) => other.job.id === job.id && other.key !== key);
    if (!others) await this.#studio.api.removeOutput(this.#studio.slug, job.id);
    this.#dismissed = [...this.#dismissed, key];
  }
}

async function attempt(action: () => Promise<unknown>): Promise<FanlightError | undefined> {
  try {
    await action();
    return undefined;
  } catch (error) {
    return FanlightError.from(error);
  }
}
