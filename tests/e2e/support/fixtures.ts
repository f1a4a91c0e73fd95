import { type BrowserContextOptions, test as base, expect, type Page } from '@playwright/test';
import { recordConnections } from './media.ts';
import { Server } from './server.ts';

interface PerTest {
  /** A room of the test's own, made before it starts. */
  room: string;
  /** Opens a page in a browser context of its own, as another person's browser. */
  newPage: (options?: BrowserContextOptions) => Promise<Page>;
}

interface PerWorker {
  server: Server;
}

/** Playwright's `test` with a running server and rooms. A test fails when one of its pages throws. */
export const test = base.extend<PerTest, PerWorker>({
  server: [
    // biome-ignore lint/correctness/noEmptyPattern: Playwright reads the names of the parameters
    async ({}, use) => {
      const server = await Server.start();
      await use(server);
      expect(await server.stop(), 'the server ends cleanly').toBe(0);
    },
    { scope: 'worker' },
  ],

  room: async ({ server }, use, info) => {
    const slug = `room-${info.testId.slice(-12)}-${info.repeatEachIndex}`.toLowerCase();
    await server.createRoom(slug, info.title.slice(0, 100));
    await use(slug);
    // Reporters cut attachments short: this is what one wants to read first.
    if (info.status !== info.expectedStatus) {
      console.log(server.log.split('\n').slice(-LOG_LINES).join('\n'));
    }
    // What goes on without its test would take from the others what the machine has.
    await server.endOutputs(slug);
  },

  newPage: async ({ browser }, use, info) => {
    const pages: Page[] = [];
    const thrown: string[] = [];
    await use(async (options) => {
      const context = await browser.newContext(options);
      await recordConnections(context);
      const page = await context.newPage();
      page.on('pageerror', (error) => thrown.push(error.stack ?? error.message));
      pages.push(page);
      return page;
    });
    if (info.status !== info.expectedStatus) {
      for (const page of pages) {
        const body = await page
          .locator('body')
          .ariaSnapshot()
          .catch(() => 'gone');
        const name = page.url().replace(/#.*/, '');
        await info.attach(name, { body, contentType: 'text/plain' });
      }
    }
    await Promise.all(pages.map((page) => page.context().close()));
    expect(thrown, 'no page throws').toEqual([]);
  },
});

export { expect };

const LOG_LINES = 40;
