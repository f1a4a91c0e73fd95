import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Chat } from '../src/chat.ts';
import type { ChatEvent } from '../src/protocol.ts';

test('the parts of a history and later messages add up, in order and once each', () => {
  const chat = new Chat();
  const first = new FakeChannel();
  chat.bind(first.channel);
  first.tell({ type: 'history', messages: [message(1), message(2)] });
  first.tell({ type: 'history', messages: [message(3)] });
  first.tell({ type: 'message', message: message(4) });
  assert.deepEqual(ids(chat), [1, 2, 3, 4]);

  const second = new FakeChannel();
  chat.bind(second.channel);
  second.tell({ type: 'message', message: message(6) });
  second.tell({ type: 'history', messages: [message(3), message(4), message(5)] });
  assert.deepEqual(ids(chat), [1, 2, 3, 4, 5, 6]);
});

class FakeChannel extends EventTarget {
  readonly readyState = 'open';

  get channel(): RTCDataChannel {
    return this as unknown as RTCDataChannel;
  }

  tell(event: ChatEvent): void {
    this.dispatchEvent(new MessageEvent('message', { data: JSON.stringify(event) }));
  }
}

function message(id: number) {
  return { id, identity: 'a', name: 'A', host: false, text: `${id}`, at_ms: id };
}

function ids(chat: Chat): number[] {
  return chat.messages.map(({ id }) => id);
}
