import { test } from '@playwright/test';
import type { Reporter, TestCase, TestResult } from '@playwright/test/reporter';

/** Notes one row of the table: milliseconds that were measured in the running test. */
export function noteRow(name: string, samples: readonly number[]): void {
  test.info().annotations.push({ type: name, description: JSON.stringify(samples) });
}

/** Prints each row as soon as its test has ended: how often it was measured, median and extremes. */
// biome-ignore lint/style/noDefaultExport: Playwright reads the default export
export default class Table implements Reporter {
  onBegin(): void {
    const columns = ['n', 'p50', 'p95', 'min', 'max'].map((column) => column.padStart(COLUMN));
    process.stdout.write(
      `${'milliseconds, unless said otherwise'.padEnd(NAME)}${columns.join('')}\n`,
    );
  }

  onTestEnd(ended: TestCase, result: TestResult): void {
    for (const { type, description } of result.annotations) {
      process.stdout.write(`${row(type, JSON.parse(description ?? '[]'))}\n`);
    }
    for (const { message } of result.errors) {
      process.stdout.write(`${ended.title} failed: ${message}\n`);
    }
  }
}

function row(name: string, samples: readonly number[]): string {
  const sorted = [...samples].sort((a, b) => a - b);
  const quantiles = [0.5, 0.95, 0, 1].map((share) => {
    const value = sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
    return (value?.toFixed(1) ?? '-').padStart(COLUMN);
  });
  return `${name.padEnd(NAME)}${String(samples.length).padStart(COLUMN)}${quantiles.join('')}`;
}

const NAME = 72;
const COLUMN = 8;
