import { defineConfig } from '@playwright/test';
import { CHROMIUM } from '../support/chromium.ts';

// biome-ignore lint/style/noDefaultExport: Playwright reads the default export
export default defineConfig({
  testDir: '.',
  testMatch: '*.figures.ts',
  outputDir: '../test-results',
  workers: 1,
  timeout: 240_000,
  expect: { timeout: 15_000 },
  reporter: [['./table.ts']],
  use: { launchOptions: CHROMIUM, viewport: { width: 1280, height: 800 } },
});
