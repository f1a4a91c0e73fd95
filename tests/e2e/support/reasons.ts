import { relative } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import type { Reporter, TestCase, TestResult } from '@playwright/test/reporter';

/** Says at the very end why tests failed, a few lines each: of a long log, people see the end first. */
// biome-ignore lint/style/noDefaultExport: Playwright reads the default export
export default class Reasons implements Reporter {
  readonly #reasons: string[] = [];

  onTestEnd(test: TestCase, result: TestResult): void {
    if (result.status === test.expectedStatus) return;
    const why = result.errors.map(({ message, location }) => {
      const text = stripVTControlCharacters(message ?? 'no message').split('\n');
      const said = text.filter((line) => line.trim() !== '').slice(0, LINES);
      const where = location ? `\n    at ${relative('', location.file)}:${location.line}` : '';
      return `    ${said.join('\n    ')}${where}`;
    });
    this.#reasons.push(`  ${test.title}: ${result.status}\n${why.join('\n')}`);
  }

  onEnd(): void {
    if (this.#reasons.length > 0) console.log(`\nWhy:\n${this.#reasons.join('\n')}`);
  }
}

const LINES = 8;
