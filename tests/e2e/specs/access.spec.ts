import AxeBuilder from '@axe-core/playwright';
import type { Page } from '@playwright/test';
import { expect, test } from '../support/fixtures.ts';
import { Studio, Watch } from '../support/pages.ts';
import type { Server } from '../support/server.ts';

const PHONE = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true };

const pages: readonly { name: string; open: Open }[] = [
  { name: 'start page', open: (page, server) => openStart(page, server) },
  {
    name: 'studio',
    open: async (page, server, room) => void (await Studio.open(page, server, room)),
  },
  {
    name: 'watch page',
    open: async (page, server, room) => void (await Watch.open(page, server, room)),
  },
];

for (const { name, open } of pages) {
  for (const colorScheme of ['light', 'dark'] as const) {
    test(`the ${name} fits a phone and is accessible in ${colorScheme}`, async ({
      server,
      room,
      newPage,
    }) => {
      const page = await newPage({ ...PHONE, colorScheme });
      await open(page, server, room);
      await expectNoSidewaysScroll(page);
      const { violations } = await new AxeBuilder({ page }).analyze();
      const grave = violations.filter(
        ({ impact }) => impact === 'serious' || impact === 'critical',
      );
      expect(grave.map(({ id, nodes }) => [id, nodes.map((node) => node.html)])).toEqual([]);
    });
  }

  test(`every control of the ${name} is reached by keyboard and shows it`, async ({
    server,
    room,
    newPage,
  }) => {
    const page = await newPage();
    await open(page, server, room);
    await markControls(page);
    const reached = await walkByTab(page);
    const missed = (await unreached(page, reached)).filter((control) => control !== '');
    expect(missed, 'controls that Tab does not reach').toEqual([]);
    const unseen = reached.filter(({ visible }) => !visible).map(({ html }) => html);
    expect(unseen, 'controls whose focus cannot be seen').toEqual([]);
  });
}

test('a broadcast works on a phone-sized screen with the keyboard alone', async ({
  server,
  room,
  newPage,
}) => {
  const page = await newPage(PHONE);
  const studio = await Studio.open(page, server, room);
  await page.getByTestId('go-live').focus();
  await page.keyboard.press('Enter');
  await studio.expectOnAir();
  await expectNoSidewaysScroll(page);
  await page.getByTestId('chat-input').focus();
  await page.keyboard.type('typed on a phone');
  await page.keyboard.press('Enter');
  await expect(page.getByTestId('chat-message')).toContainText('typed on a phone');
  await page.getByTestId('stop').focus();
  await page.keyboard.press('Space');
  await studio.expectOffAir();
});

type Open = (page: Page, server: Server, room: string) => Promise<void>;

interface Stop {
  /** The control's mark, empty for what is no control. */
  mark: string;
  html: string;
  /** Whether the focus can be seen. */
  visible: boolean;
}

async function openStart(page: Page, server: Server): Promise<void> {
  await page.goto(server.ownerLink);
  await expect(page.getByTestId('create-room')).toBeVisible();
}

async function expectNoSidewaysScroll(page: Page): Promise<void> {
  const widths = await page.evaluate(() => ({
    page: document.documentElement.scrollWidth,
    screen: document.documentElement.clientWidth,
  }));
  expect(widths.page).toBeLessThanOrEqual(widths.screen);
}

/** Numbers the controls that a mouse can use; of radio buttons of one group only the first counts. */
async function markControls(page: Page): Promise<void> {
  await page.evaluate(() => {
    const groups = new Set<string>();
    const selector = 'a[href], button, input, select, textarea, summary, [role=button], [tabindex]';
    let marks = 0;
    for (const control of document.querySelectorAll<HTMLElement>(selector)) {
      if (control.matches(':disabled, [tabindex="-1"], [type=hidden]')) continue;
      if (!control.checkVisibility({ visibilityProperty: true, opacityProperty: true })) continue;
      if (control instanceof HTMLInputElement && control.type === 'radio') {
        if (groups.has(control.name)) continue;
        groups.add(control.name);
      }
      control.dataset.mark = `${++marks}`;
    }
  });
}

/** Presses Tab until the focus leaves the page or comes back to a control. */
async function walkByTab(page: Page): Promise<Stop[]> {
  const stops: Stop[] = [];
  for (let presses = 0; presses < 100; presses++) {
    await page.keyboard.press('Tab');
    const stop = await page.evaluate(() => {
      const focused = document.activeElement;
      if (!(focused instanceof HTMLElement) || focused === document.body) return null;
      const looks = () => {
        const { outlineStyle, outlineWidth, boxShadow, borderColor } = getComputedStyle(focused);
        return outlineStyle === 'none' || outlineWidth === '0px'
          ? `${boxShadow} ${borderColor}`
          : 'outlined';
      };
      const focusedLooks = looks();
      let visible = focusedLooks === 'outlined';
      if (!visible) {
        focused.blur();
        visible = looks() !== focusedLooks;
        focused.focus();
      }
      const group = focused instanceof HTMLInputElement && focused.type === 'radio' && focused.name;
      const first = group ? document.querySelector<HTMLElement>(`[name="${group}"]`) : focused;
      return {
        mark: first?.dataset.mark ?? '',
        html: focused.outerHTML.slice(0, 120),
        visible,
      };
    });
    if (
      stop === null ||
      stops.some((earlier) => earlier.html === stop.html && earlier.mark === stop.mark)
    ) {
      break;
    }
    stops.push(stop);
  }
  return stops;
}

async function unreached(page: Page, reached: readonly Stop[]): Promise<string[]> {
  const marks = reached.map(({ mark }) => mark);
  return page.evaluate(
    (marks) =>
      [...document.querySelectorAll<HTMLElement>('[data-mark]')]
        .filter((control) => !marks.includes(control.dataset.mark ?? ''))
        .filter((control) => control.checkVisibility({ visibilityProperty: true }))
        .map((control) => control.outerHTML.slice(0, 120)),
    marks,
  );
}
