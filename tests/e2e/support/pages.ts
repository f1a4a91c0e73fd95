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

  /** The studio that the page already shows. */
  static async on(page: Page): Promise<Studio> {
    await expect(page.getByTestId('go-live')).toBeVisible();
    return new Studio(page);
  }

  async goLive(): Promise<void> {
    await this.page.getByTestId('go-live').click();
    await this.expectOnAir();
  }

  async expectOnAir(timeout = 10_000): Promise<void> {
    await expect(this.page.getByTestId('on-air')).toBeVisible({ timeout });
  }

  async expectViewers(count: number): Promise<void> {
    const shown = this.page.getByTestId('viewer-count');
    await expect(shown).toHaveText(new RegExp(`(^|\\D)${count}(\\D|$)`));
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

  async unmute(): Promise<void> {
    await this.page.getByTestId('unmute').click();
    await expect(this.player).toHaveJSProperty('muted', false);
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
