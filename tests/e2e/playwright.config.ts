import { defineConfig } from '@playwright/test';
import { CHROMIUM } from './support/chromium.ts';

// biome-ignore lint/style/noDefaultExport: Playwright reads the default export
export default defineConfig({
  testDir: 'specs',
  outputDir: 'test-results',
  // One publisher and its viewers are as much as two cores encode and decode in time.
  workers: 1,
  fullyParallel: false,
  forbidOnly: !!process.env.CI,
  retries: 0,
  timeout: 60_000,
  globalTimeout: 900_000,
  expect: { timeout: 15_000 },
  reporter: [['list'], ['./support/reasons.ts']],
  use: {
    launchOptions: CHROMIUM,
    actionTimeout: 8_000,
    navigationTimeout: 10_000,
    viewport: { width: 1280, height: 800 },
    screenshot: 'only-on-failure',
  },
});
