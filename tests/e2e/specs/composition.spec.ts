import AxeBuilder from '@axe-core/playwright';
import type { Page } from '@playwright/test';
import {
  type Colour,
  decode,
  type Picture,
  paintCamera,
  paintScreen,
  still,
} from '../support/film.ts';
import { expect, test } from '../support/fixtures.ts';
import { POLL } from '../support/media.ts';
import { Guest, Studio } from '../support/pages.ts';
import type { Server } from '../support/server.ts';

test('the host chooses layout and look while the stage is recorded', async ({
  server,
  room,
  newPage,
}, info) => {
  // Two pages that encode and decode, and a composed picture, on two cores.
  test.slow();
  const page = await newPage();
  await paintCamera(page.context(), 'rgb(200, 40, 40)');
  const studio = await Studio.open(page, server, room, '?simulcast=0');
  await studio.chooseQuality('480p');
  await refuseWhatIsNoImage(page);
  await upload(page, 'logo', await paint(page, 320, 160, 'rgb(240, 220, 40)'));
  await upload(page, 'slate', await paint(page, 640, 360, 'rgb(40, 60, 220)'));
  await page.getByTestId('look-title').fill('Summer party');
  await page.getByTestId('look-title').press('Enter');
  await page.getByTestId('look-background').fill('#a0a0a0');

  await studio.goLive();
  const guests = await newPage();
  await paintCamera(guests.context(), 'rgb(40, 160, 60)');
  const guest = await Guest.open(
    guests,
    (await studio.inviteGuests()).replace('#', '?simulcast=0#'),
  );
  await guest.introduce('Grace');
  await guest.join();
  const members = page.getByTestId('stage-member');
  await expect(members).toHaveCount(2);
  await members.filter({ hasText: '(you)' }).getByTestId('feature').click();

  const job = await record(server, room);
  await seen(server, room, job, 24);
  // A second studio of the same host is kept in step.
  const second = await newPage();
  await second.goto(`${server.origin}/studio/${room}#token=${server.ownerToken}`);
  await expect(second.getByTestId('layout-grid')).toBeChecked();
  await expect(second.getByTestId('image-logo')).toBeVisible();
  await page.getByTestId('layout-grid').focus();
  for (const layout of ['speaker', 'screen', 'picture_in_picture', 'single']) {
    await page.keyboard.press('ArrowRight');
    await expect(second.getByTestId(`layout-${layout}`)).toBeChecked();
    await seen(server, room, job, 24);
  }
  await page.getByTestId('layout-picture_in_picture').check();
  await page.getByTestId('logo-corner').selectOption('lower_left');
  await seen(server, room, job, 24);
  await page.getByTestId('layout-grid').check();
  await seen(server, room, job, 24);
  await page.screenshot({ path: info.outputPath('studio.png'), fullPage: true });
  const { violations } = await new AxeBuilder({ page }).analyze();
  expect(violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)])).toEqual([]);
  await second.close();
  await studio.stop();
  await seen(server, room, job, 60);

  const film = await finish(server, room, job);
  const pictures = await decode(film);
  const story = scenes(pictures);
  // Until both have come it is the slate, or one of them; and in the end one leaves first.
  story.splice(
    0,
    story.findIndex(({ name }) => name === 'grid'),
  );
  for (const { name, seconds } of story) await still(film, seconds, info.outputPath(`${name}.png`));
  const names = story.map(({ name }) => name).filter((name) => name !== 'guest');
  expect(names.join(' ')).toBe('grid speaker inset single inset grid slate');
  for (const { seconds, brightness } of pictures)
    expect(brightness, `the picture at ${seconds} s is not black`).toBeGreaterThan(40);
  // A busy machine leaves out some pictures, at any time; a break would be longer.
  const gaps = pictures.slice(1).flatMap(({ seconds }, n) => {
    const step = seconds - (pictures[n]?.seconds ?? 0);
    return step < 0.1 ? [] : [{ at: seconds, step }];
  });
  console.log(`steps beyond 100 ms: ${JSON.stringify(gaps)}`);
  for (const { at, step } of gaps) expect(step, `the step at ${at} s`).toBeLessThan(1.2);
});

test('a screen that is shared in the place of a camera is large in the layout made for it', async ({
  server,
  room,
  newPage,
}, info) => {
  // Two pages that encode and decode, and a composed picture, on two cores.
  test.slow();
  const page = await newPage();
  await paintCamera(page.context(), 'rgb(200, 40, 40)');
  const studio = await Studio.open(page, server, room, '?simulcast=0');
  await studio.chooseQuality('480p');
  await studio.goLive();
  const guests = await newPage();
  await paintCamera(guests.context(), 'rgb(40, 160, 60)');
  await paintScreen(guests.context(), 'rgb(40, 60, 220)');
  const guest = await Guest.open(
    guests,
    (await studio.inviteGuests()).replace('#', '?simulcast=0#'),
  );
  await guest.introduce('Grace');
  await guest.join();
  await page.getByTestId('look-background').fill('#a0a0a0');
  await page.getByTestId('layout-screen').check();
  const members = page.getByTestId('stage-member');
  await members.filter({ hasText: '(you)' }).getByTestId('feature').click();

  const job = await record(server, room);
  await seen(server, room, job, 40);
  for (const source of ['screen', 'camera']) {
    await guests.getByTestId(`source-${source}`).click();
    await expect(guests.getByTestId(`source-${source}`)).toHaveAttribute('aria-pressed', 'true');
    await seen(server, room, job, 40);
  }
  const film = await finish(server, room, job);
  // While one turns into the other, the guest's new picture is still in the place of the one before.
  const story = scenes(await decode(film)).filter(({ name }) =>
    ['speaker', 'screen'].includes(name),
  );
  for (const [n, { name, seconds }] of story.entries())
    await still(film, seconds, info.outputPath(`${n}-${name}.png`));
  const names = story.map(({ name }) => name).filter((name, n) => name !== story[n - 1]?.name);
  expect(names).toEqual(['speaker', 'screen', 'speaker']);
});

for (const codec of ['vp9', 'av1']) {
  test(`layers that are sent as ${codec} are composed`, async ({ server, room, newPage }, info) => {
    test.slow();
    const page = await newPage();
    await paintCamera(page.context(), 'rgb(200, 40, 40)', 720);
    const studio = await Studio.open(page, server, room, `?codec=${codec}&simulcast=1`);
    await studio.goLive();
    await expect.poll(() => sentAs(page)).toBe(`video/${codec.toUpperCase()} L3T3_KEY`);
    const job = await record(server, room);
    await seen(server, room, job, 60);
    const film = await finish(server, room, job);
    const pictures = await decode(film);
    await still(film, 2, info.outputPath('middle.png'));
    const shown = pictures.findIndex((picture) => scene(picture) === 'single');
    expect(shown, 'the camera is seen').toBeGreaterThanOrEqual(0);
    const after = pictures.slice(shown).map(scene);
    expect(after.length).toBeGreaterThan(30);
    expect(new Set(after), 'and nothing else from then on').toEqual(new Set(['single']));
  });
}

/** The codec of the picture that a page sends, and its layers. */
async function sentAs(page: Page): Promise<string> {
  return page.evaluate(async () => {
    for (const connection of openedConnections) {
      const stats = await connection.getStats();
      for (const stat of stats.values()) {
        if (stat.type !== 'outbound-rtp' || stat.kind !== 'video' || !stat.codecId) continue;
        return `${stats.get(stat.codecId)?.mimeType} ${stat.scalabilityMode}`;
      }
    }
    return 'nothing is sent';
  });
}

/** Files that are no pictures are explained and change nothing. */
async function refuseWhatIsNoImage(page: Page): Promise<void> {
  const refusal = page.getByTestId('image-error-logo');
  const text = { name: 'notes.txt', mimeType: 'text/plain', buffer: Buffer.from('notes') };
  await page.getByTestId('file-logo').setInputFiles(text);
  await expect(refusal).toContainText('Choose a PNG or JPEG image');
  await page
    .getByTestId('file-logo')
    .setInputFiles({ ...text, name: 'a.png', mimeType: 'image/png' });
  await expect(refusal).toHaveAttribute('data-code', 'image_invalid');
  await expect(refusal).toContainText(/neither a PNG nor a JPEG/);
  await expect(page.getByTestId('image-logo')).toHaveCount(0);
}

/** Chooses an image and waits until the studio shows it. */
async function upload(page: Page, kind: string, buffer: Buffer): Promise<void> {
  const file = { name: `${kind}.png`, mimeType: 'image/png', buffer };
  await page.getByTestId(`file-${kind}`).setInputFiles(file);
  const shown = page.getByTestId(`image-${kind}`);
  await expect(shown).toHaveJSProperty('complete', true);
  expect(await shown.evaluate((image: HTMLImageElement) => image.naturalWidth)).toBeGreaterThan(0);
  await expect(page.getByTestId(`image-error-${kind}`)).toHaveCount(0);
}

/** A PNG of one colour. */
async function paint(page: Page, width: number, height: number, colour: string): Promise<Buffer> {
  const url = await page.evaluate(
    ({ width, height, colour }) => {
      const canvas = document.createElement('canvas');
      [canvas.width, canvas.height] = [width, height];
      const context = canvas.getContext('2d');
      if (!context) throw new Error('no canvas');
      context.fillStyle = colour;
      context.fillRect(0, 0, width, height);
      return canvas.toDataURL('image/png');
    },
    { width, height, colour },
  );
  return Buffer.from(url.slice(url.indexOf(',') + 1), 'base64');
}

/** Starts to record the whole stage; returns the job's id. */
async function record(server: Server, room: string): Promise<string> {
  const answer = await server.api('POST', `/api/rooms/${room}/egress`, {
    source: { type: 'stage' },
    // Small, so that even a busy machine composes all of it.
    preset: { width: 640, height: 360, frame_rate: 15, bitrate_bps: 800_000 },
    destinations: [{ type: 'recording' }],
  });
  const job = await answer.json();
  expect(answer.status, JSON.stringify(job)).toBe(201);
  return job.id;
}

/** Waits until that many pictures more have gone into the recording. */
async function seen(server: Server, room: string, job: string, more: number): Promise<void> {
  const frames = async (): Promise<number> => {
    const answer = await server.api('GET', `/api/rooms/${room}/egress/${job}`);
    return (await answer.json()).destinations[0].frames;
  };
  const before = await frames();
  await expect
    .poll(frames, { message: `${more} pictures are recorded`, intervals: POLL, timeout: 20_000 })
    .toBeGreaterThan(before + more);
}

/** Ends the job and returns its recording. */
async function finish(server: Server, room: string, job: string): Promise<Uint8Array> {
  await server.api('DELETE', `/api/rooms/${room}/egress/${job}`);
  let address = '';
  const ready = async () => {
    const { recordings } = await (await server.api('GET', `/api/rooms/${room}/recordings`)).json();
    const [recording] = recordings;
    address = recording?.files[0]?.url ?? '';
    return recording?.state;
  };
  await expect
    .poll(ready, { message: 'the recording is ready', intervals: POLL, timeout: 20_000 })
    .toBe('ready');
  const file = await fetch(new URL(address, server.origin));
  return new Uint8Array(await file.arrayBuffer());
}

/** What the pictures show, one after the other; and a time in the middle of each. */
function scenes(pictures: readonly Picture[]): { name: string; seconds: number }[] {
  const all: { name: string; from: number; to: number }[] = [];
  for (const picture of pictures) {
    const name = scene(picture);
    const last = all.at(-1);
    if (last?.name === name) last.to = picture.seconds;
    else all.push({ name, from: picture.seconds, to: picture.seconds });
  }
  return all.map(({ name, from, to }) => ({ name, seconds: (from + to) / 2 }));
}

/** Where the host (red), the guest (green), and a shared screen or the slate (blue) are, on grey. */
function scene(picture: Picture): string {
  const is = (x: number, y: number, colour: Colour) =>
    picture.at(x, y).every((part, n) => Math.abs(part - (colour[n] ?? 0)) < 45);
  if (is(0.25, 0.5, RED) && is(0.75, 0.5, GREEN) && is(0.25, 0.9, GREY)) return 'grid';
  if (is(0.4, 0.5, RED) && is(0.95, 0.5, GREEN) && is(0.95, 0.2, GREY)) return 'speaker';
  if (is(0.4, 0.5, BLUE) && is(0.95, 0.5, RED) && is(0.95, 0.2, GREY)) return 'screen';
  if (is(0.5, 0.5, RED) && is(0.9, 0.82, GREEN)) return 'inset';
  if (is(0.5, 0.5, RED) && is(0.9, 0.82, RED)) return 'single';
  if (is(0.5, 0.5, GREEN) && is(0.9, 0.82, GREEN)) return 'guest';
  if (is(0.5, 0.5, BLUE) && is(0.9, 0.82, BLUE)) return 'slate';
  return `unknown at ${picture.seconds}`;
}

const RED: Colour = [200, 40, 40];
const GREEN: Colour = [40, 160, 60];
const BLUE: Colour = [40, 60, 220];
const GREY: Colour = [160, 160, 160];
