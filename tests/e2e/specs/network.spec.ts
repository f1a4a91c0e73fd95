import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { setTimeout as wait } from 'node:timers/promises';
import { expect, test } from '@playwright/test';
import { HEADERS } from '../support/link.ts';
import { type Address, Network, type NetworkShape } from '../support/network.ts';

/** One datagram a millisecond: 8.6 Mbit/s with headers. */
const SIZE = 1_050;

test.describe('the simulated network', () => {
  test('delays by as much as it is told', async () => {
    const { delay, arrived, sent } = await measure({ down: { delayMs: 25 } }, 1_000);
    expect(arrived).toBe(sent);
    expect(delay).toBeGreaterThanOrEqual(25);
    expect(delay).toBeLessThan(30);
  });

  test('carries as much as it is told, and drops what its queue cannot hold', async () => {
    const rate = 3_000_000;
    const { delay, bitrate, arrived, sent } = await measure({ down: { rate } }, 2_000);
    expect(Math.abs(bitrate / rate - 1), `${bitrate} bit/s`).toBeLessThan(0.05);
    expect(arrived).toBeLessThan(sent / 2);
    expect(Math.abs(delay - 200), 'the queue was full most of the time').toBeLessThan(10);
  });

  test('loses as many as it is told, the same ones each time', async () => {
    const shape = { down: { loss: 0.05 } };
    const [first, second] = [await measure(shape, 1_000), await measure(shape, 1_000)];
    expect(1 - first.arrived / first.sent).toBeGreaterThan(0.03);
    expect(1 - first.arrived / first.sent).toBeLessThan(0.07);
    const common = Math.min(first.sent, second.sent);
    expect(first.numbers.filter((n) => n < common)).toEqual(
      second.numbers.filter((n) => n < common),
    );
  });
});

interface Measured {
  sent: number;
  arrived: number;
  /** Which arrived, in the order of their arrival. */
  numbers: number[];
  /** Median, ms. */
  delay: number;
  /** On the wire, from the first arrival to the last. */
  bitrate: number;
}

/** Sends a datagram a millisecond through the network, from the server's side, and looks at what arrives. */
async function measure(shape: NetworkShape, milliseconds: number): Promise<Measured> {
  const network = new Network(shape);
  const [server, page] = [createSocket('udp4'), createSocket('udp4')];
  try {
    server.bind(0, '127.0.0.1');
    await once(server, 'listening');
    const door = await network.door({ ip: '127.0.0.1', port: server.address().port });
    page.send('hello', door.port, door.ip);
    const [, from] = (await once(server, 'message')) as [Buffer, { address: string; port: number }];
    const outside: Address = { ip: from.address, port: from.port };

    const numbers: number[] = [];
    const delays: number[] = [];
    const sentAt: number[] = [];
    let [first, last] = [0, 0];
    page.on('message', (bytes) => {
      last = performance.now();
      first ||= last;
      const number = bytes.readUInt32BE();
      numbers.push(number);
      delays.push(last - (sentAt[number] ?? 0));
    });
    const start = performance.now();
    for (let now = start; now < start + milliseconds; now = performance.now()) {
      while (sentAt.length < now - start) {
        const datagram = Buffer.alloc(SIZE);
        datagram.writeUInt32BE(sentAt.length);
        sentAt.push(performance.now());
        server.send(datagram, outside.port, outside.ip);
      }
      await wait(1);
    }
    await expect
      .poll(() => {
        const { sent, dropped, lost } = network.counters.down;
        return numbers.length - (sent - dropped - lost);
      })
      .toBe(0);
    const bits = (numbers.length - 1) * (SIZE + HEADERS) * 8;
    const bitrate = (bits * 1000) / (last - first);
    const delay = delays.sort((a, b) => a - b)[delays.length >> 1] ?? Number.NaN;
    return { sent: sentAt.length, arrived: numbers.length, numbers, delay, bitrate };
  } finally {
    network.close();
    server.close();
    page.close();
  }
}
