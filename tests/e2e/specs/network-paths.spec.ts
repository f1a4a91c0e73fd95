import { expect, test } from '../support/fixtures.ts';
import { expectVideoFlows, received } from '../support/media.ts';
import { Network } from '../support/network.ts';
import { Studio, Watch } from '../support/pages.ts';

test('a viewer whose address changes sees on over the same connection', async ({
  server,
  room,
  newPage,
}) => {
  const studio = await Studio.open(await newPage(), server, room);
  await studio.goLive();
  const viewer = await newPage();
  const network = await Network.before(viewer);
  await Watch.open(viewer, server, room);
  await expectVideoFlows(viewer, 30);

  network.moveAddress();
  await expectVideoFlows(viewer, 90);
  const { connections } = await received(viewer);
  expect(connections, 'the viewer kept its connection').toBe(1);
});
