import puppeteer, { type Browser, type Page } from 'puppeteer-core';

/**
 * Starts Debian's Firefox with a fake camera and microphone that are granted at once. It has no H264: what decodes that
 * is a plugin which it downloads.
 */
export function startFirefox(): Promise<Browser> {
  return puppeteer.launch({
    browser: 'firefox',
    executablePath: '/usr/bin/firefox-esr',
    headless: true,
    extraPrefsFirefox: {
      'media.navigator.streams.fake': true,
      'media.navigator.permission.disabled': true,
      'media.autoplay.default': 0,
    },
  });
}

/** Opens a page in a profile of its own, as another person's browser, and fails on what it throws. */
export async function openPage(browser: Browser, url: string): Promise<Page> {
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  page.on('pageerror', (error) => {
    throw error;
  });
  await page.goto(url);
  return page;
}

/** Waits until the player has shown so many pictures. Returns how high the last one was. */
export async function expectPlays(page: Page, frames: number): Promise<number> {
  await page.waitForSelector('[data-testid=player]');
  return page.$eval(
    '[data-testid=player]',
    (element, frames) =>
      new Promise<number>((resolve, reject) => {
        const video = element as HTMLVideoElement;
        let shown = 0;
        const late = () => reject(new Error(`Firefox shows ${shown} of ${frames} pictures`));
        setTimeout(late, 20_000);
        const count = () => {
          shown += 1;
          if (shown >= frames) resolve(video.videoHeight);
          video.requestVideoFrameCallback(count);
        };
        video.requestVideoFrameCallback(count);
      }),
    frames,
  );
}
