import { expect, type Locator, type Page } from '@playwright/test';
import type { Server } from './server.ts';

/** The broadcaster's page. */
export class Studio {
  readonly page: Page;

  private constructor(page: Page) {
    this.page = page;
  }

  /** Opens the room's studio as the owner. */
  static async open(page: Page, server: Server, room: string, query = ''): Promise<Studio> {
    await page.goto(`${server.origin}/studio/${room}${query}#token=${server.ownerToken}`);
    return Studio.on(page);
  }

  /** The studio that the page already shows, once its camera is there. */
  static async on(page: Page): Promise<Studio> {
    await expect(page.getByTestId('go-live')).toBeEnabled();
    await expect(page.getByTestId('camera-select')).toBeEnabled();
    return new Studio(page);
  }

  /** Chooses how good a picture to send; before going live. */
  async chooseQuality(quality: string): Promise<void> {
    await this.page.getByText('Quality', { exact: true }).click();
    await this.page.getByTestId('quality-select').selectOption(quality);
    await expect(this.page.getByTestId('go-live')).toBeEnabled();
  }

  /** Chooses what to send. */
  async use(kind: 'camera' | 'screen' | 'audio'): Promise<void> {
    const button = this.page.getByTestId(`source-${kind}`);
    await button.click();
    await expect(button).toHaveAttribute('aria-pressed', 'true');
  }

  async goLive(): Promise<void> {
    await this.page.getByTestId('go-live').click();
    await this.expectOnAir();
  }

  async pause(): Promise<void> {
    await this.page.getByTestId('pause').click();
    await this.expectPaused();
  }

  async mute(): Promise<void> {
    await this.page.getByTestId('mic-mute').click();
    await expect(this.page.getByTestId('mic-mute')).toHaveAttribute('aria-pressed', 'true');
  }

  async stop(): Promise<void> {
    await this.page.getByTestId('stop').click();
    await this.expectOffAir();
  }

  /** Makes an invitation and returns its link. */
  async inviteGuests(): Promise<string> {
    await this.page.getByTestId('make-stage-invite').click();
    return this.page.getByTestId('stage-invite-link').inputValue();
  }

  async expectOnAir(timeout = 10_000): Promise<void> {
    await expect(this.#air).toHaveAttribute('data-state', 'live', { timeout });
  }

  async expectPaused(): Promise<void> {
    await expect(this.#air).toHaveAttribute('data-state', 'paused');
  }

  /** Waits until the page says that the broadcaster is seen and not heard. */
  async expectMuted(): Promise<void> {
    await expect(this.#air.getByTestId('muted')).toBeVisible();
  }

  async expectOffAir(): Promise<void> {
    await expect(this.#air).toHaveAttribute('data-state', 'idle');
    await expect(this.page.getByTestId('go-live')).toBeVisible();
  }

  async expectViewers(count: number): Promise<void> {
    await expect(this.page.getByTestId('viewer-count')).toHaveText(`${count}`);
  }

  /** Adds an RTMP server of one's own to the outputs. */
  async addRtmp(url: string, key: string): Promise<void> {
    const before = await this.output(url).count();
    await this.page.getByTestId('output-platform').selectOption('custom');
    await this.page.getByTestId('output-url').fill(url);
    await this.page.getByTestId('output-key').fill(key);
    await this.page.getByTestId('output-add').click();
    await expect(this.output(url)).toHaveCount(before + 1);
  }

  /** Adds a receiver of SRT to the outputs. */
  async addSrt(url: string): Promise<void> {
    await this.page.getByTestId('output-platform').selectOption('srt');
    await this.page.getByTestId('output-url').fill(url);
    await this.page.getByTestId('output-add').click();
    await expect(this.output(url)).toBeVisible();
  }

  /** Goes live, as HLS too. */
  async goLiveAsHls(): Promise<void> {
    await this.goLive();
    await this.switchHls();
    await this.expectOutput('/hls/', 'live');
  }

  async switchHls(): Promise<void> {
    await this.page.getByTestId('hls-switch').click();
  }

  /** The output whose address contains this. */
  output(address: string): Locator {
    return this.page.getByTestId('output-row').filter({ hasText: address });
  }

  async expectOutput(address: string, state: string, timeout = 15_000): Promise<void> {
    const shown = this.output(address).getByTestId('output-state');
    await expect(shown).toHaveAttribute('data-state', state, { timeout });
  }

  get #air(): Locator {
    return this.page.getByTestId('on-air');
  }
}

/** The page of a guest who was invited on stage. */
export class Guest {
  readonly page: Page;

  private constructor(page: Page) {
    this.page = page;
  }

  static async open(page: Page, link: string): Promise<Guest> {
    await page.goto(link);
    await expect(page.getByTestId('camera-select')).toBeEnabled();
    expect(page.url(), 'the address can be shown to anybody').not.toContain('token');
    return new Guest(page);
  }

  async introduce(name: string): Promise<void> {
    const input = this.page.getByTestId('stage-name');
    // Until the server has given a name, there is none to change.
    await expect(input).not.toHaveValue('');
    await input.fill(name);
    await input.blur();
    await expect(this.page.getByText(`You are ${name}`)).toBeVisible();
  }

  async join(): Promise<void> {
    await this.page.getByTestId('join-stage').click();
    await this.expectOnStage();
  }

  async expectOnStage(): Promise<void> {
    await expect(this.page.getByTestId('on-stage')).toHaveAttribute('data-state', 'live');
  }
}

/** The viewer's page. */
export class Watch {
  readonly page: Page;

  private constructor(page: Page) {
    this.page = page;
  }

  static async open(page: Page, server: Server, room: string, query = ''): Promise<Watch> {
    await page.goto(`${server.origin}/watch/${room}${query}`);
    await expect(page.getByTestId('player')).toBeAttached();
    return new Watch(page);
  }

  get player(): Locator {
    return this.page.getByTestId('player');
  }

  /** Returns where the player is, in seconds. */
  async position(): Promise<number> {
    return this.player.evaluate((video) =>
      video instanceof HTMLVideoElement ? video.currentTime : 0,
    );
  }

  /** Waits until the player has gone on by that many seconds. */
  async expectPlaying(seconds: number, timeout = 30_000): Promise<void> {
    let start: number | undefined;
    const played = async () => {
      const now = await this.position();
      start ??= now > 0 ? now : undefined;
      return now - (start ?? now);
    };
    await expect.poll(played, { message: 'the player goes on', timeout }).toBeGreaterThan(seconds);
  }

  /** Waits until the player does not go on. */
  async expectStanding(): Promise<void> {
    let last = -1;
    const moved = async () => {
      const at = await this.position();
      const by = at - last;
      last = at;
      return by;
    };
    await expect.poll(moved, { message: 'the player stands', intervals: [1500] }).toBe(0);
  }

  /** Returns for how long the player stood at most during the next so many seconds. */
  async longestStand(seconds: number): Promise<number> {
    return this.player.evaluate(async (video, lookMs) => {
      const place = () => (video instanceof HTMLVideoElement ? video.currentTime : 0);
      const endMs = performance.now() + lookMs;
      let [at, movedMs, longestMs] = [place(), performance.now(), 0];
      while (performance.now() < endMs) {
        await new Promise((resolve) => setTimeout(resolve, 100));
        if (place() !== at) [at, movedMs] = [place(), performance.now()];
        longestMs = Math.max(longestMs, performance.now() - movedMs);
      }
      return longestMs / 1000;
    }, seconds * 1000);
  }

  async unmute(): Promise<void> {
    await this.page.getByTestId('unmute').click();
    await expect(this.player).toHaveJSProperty('muted', false);
  }

  /** Waits until the player says that over the picture. */
  async expectOverlay(text: RegExp): Promise<void> {
    await expect(this.page.getByTestId('player-overlay')).toContainText(text);
  }

  async expectNoOverlay(): Promise<void> {
    await expect(this.page.getByTestId('player-overlay')).toBeHidden();
  }
}

/** Writes in the chat of a studio or a watch page. */
export async function say(page: Page, text: string): Promise<void> {
  await page.getByTestId('chat-input').fill(text);
  await page.getByTestId('chat-send').click();
}

/** The chat message of that text. */
export function message(page: Page, text: string): Locator {
  return page.getByTestId('chat-message').filter({ hasText: text });
}
