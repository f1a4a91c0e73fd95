import type { LaunchOptions } from '@playwright/test';

/** Debian's Chromium with a fake camera and microphone (a beep each second) that are granted at once. */
export const CHROMIUM: LaunchOptions = chromium(
  '--use-fake-ui-for-media-stream',
  '--use-fake-device-for-media-stream=fps=30',
);

/** The same browser with other devices or permissions. */
export function chromium(...mediaFlags: string[]): LaunchOptions {
  return {
    executablePath: '/usr/bin/chromium',
    headless: true,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      // A page in the background must encode, decode and reconnect like the one in front.
      '--disable-background-timer-throttling',
      '--disable-renderer-backgrounding',
      '--disable-backgrounding-occluded-windows',
      ...mediaFlags,
    ],
  };
}
