import assert from 'node:assert/strict';
import { test } from 'node:test';
import { JsonError } from '../src/json.ts';
import {
  parseChatEvent,
  parseEgressJob,
  parseProblem,
  parseRoomEvent,
  parseServerMessage,
  parseThumbnailList,
} from '../src/protocol.ts';

const room = {
  slug: 'demo',
  title: 'Demo',
  live: true,
  paused: false,
  live_since_ms: 1,
  viewers: 2,
  hls: false,
  stage_size: 9,
  stage: [{ identity: 'a', name: 'Ada', host: true }],
  featured: null,
  layout: 'speaker',
  look: {
    names: true,
    title: 'Title',
    background: '#141821',
    slate: '',
    logo_corner: 'upper_right',
    logo: { url: '/api/rooms/demo/images/logo?v=1', width: 64, height: 32 },
    background_image: null,
    slate_image: null,
  },
};
const grants = {
  publish: true,
  stage: false,
  subscribe: true,
  chat: true,
  egress: false,
  admin: false,
};
const slot = { slot: 0, identity: 'a', name: 'Ada', kind: 'video', heights: [180, 360, 720] };
const joined = {
  type: 'joined',
  identity: 'a',
  name: 'A',
  grants,
  room,
  ice_servers: [{ urls: ['turn:x'], username: 'u', credential: 'c' }, { urls: ['stun:x'] }],
};
const destination = {
  id: 'd1',
  type: 'rtmp',
  url: 'rtmp://x/y',
  private: false,
  state: 'retrying',
  code: 'timeout',
  last_error: 'No answer.',
  past_failure: { code: 'stalled', message: 'Slow.', recovered_at_ms: 3 },
  attempt: 2,
  next_try_at_ms: 5,
  live_since_ms: null,
  bytes: 0,
  acknowledged_bytes: 0,
  bitrate_bps: 0,
  delay_ms: 0,
  frames: 0,
  dropped_frames: 0,
};
const job = {
  id: 'j',
  room: 'demo',
  source: { type: 'program' },
  audio_only: false,
  preset: 'pass_through',
  layout: null,
  state: 'running',
  created_at_ms: 1,
  receiving: true,
  hold_ms: 60_000,
  restarts: 0,
  worker_pid: null,
  degraded: null,
  cpu_percent: 0,
  destinations: [destination],
};

test('every message of the server is read as it was written', () => {
  const messages = [
    joined,
    { ...joined, guest_token: 't' },
    { type: 'answer', sdp: 'v=0' },
    { type: 'room', room: { ...room, live_since_ms: null } },
    { type: 'outputs', jobs: [job] },
    { type: 'ice_restarted', media: 'watch', ice: { ufrag: 'u', pwd: 'p' } },
    { type: 'ice_restarted', media: 'publish', ice: null },
    { type: 'wanted_layers', wanted: [true, false] },
    { type: 'media_closed', media: 'publish', reason: 'replaced' },
    { type: 'error', code: 'room_unknown', message: 'No.' },
    { type: 'pong' },
  ];
  for (const message of messages) {
    assert.deepEqual(parseServerMessage(JSON.stringify(message)), message, message.type);
  }
});

test('every chat and room event is read as it was written', () => {
  const message = { id: 1, identity: 'a', name: 'A', host: true, text: 'hi', at_ms: 3 };
  const chat = [
    { type: 'history', messages: [message] },
    { type: 'message', message, nonce: '1' },
    { type: 'message', message },
    { type: 'refused', code: 'chat_rate_limited', message: 'Slow.', retry_after_ms: 9, nonce: '1' },
  ];
  for (const event of chat) assert.deepEqual(parseChatEvent(JSON.stringify(event)), event);
  const events = [
    { type: 'room', room },
    { type: 'stage', video: [null, { ...slot, slot: 1 }], audio: [], program: 'a' },
  ];
  for (const event of events) assert.deepEqual(parseRoomEvent(JSON.stringify(event)), event);
});

test('a type this version does not know is no error', () => {
  assert.equal(parseServerMessage('{"type":"fireworks"}'), undefined);
  assert.equal(parseServerMessage('{"type":"toString"}'), undefined);
});

test('a code this version does not know keeps its message', () => {
  const message = parseServerMessage('{"type":"error","code":"fireworks","message":"Boom."}');
  assert.deepEqual(message, { type: 'error', code: 'internal', message: 'Boom.' });
});

test('broken messages are refused with the place of the fault', () => {
  const cases: [string, RegExp][] = [
    ['', /not JSON/],
    ['[]', /message is not an object/],
    ['{"type":1}', /message.type is not a string/],
    ['{"type":"answer"}', /answer.sdp is not a string/],
    [JSON.stringify({ type: 'room', room: { ...room, viewers: '2' } }), /room.room.viewers/],
    [JSON.stringify({ type: 'outputs', jobs: [{ ...job, state: 'odd' }] }), /jobs\[0\].state/],
  ];
  for (const [text, reason] of cases) {
    assert.throws(
      () => parseServerMessage(text),
      (error) => error instanceof JsonError && reason.test(error.message),
      text,
    );
  }
});

test('an answer of the API is read', () => {
  assert.deepEqual(parseEgressJob(job), job);
  assert.deepEqual(parseEgressJob({ ...job, hold_ms: null }).hold_ms, null);
  const picture = { number: 7, taken_at_ms: 1, bytes: 2, width: 640, height: 360, url: '/7.jpg' };
  assert.deepEqual(parseThumbnailList({ thumbnails: [picture] }), { thumbnails: [picture] });
  assert.deepEqual(parseProblem({ code: 'x', detail: 'y', status: 400 }), {
    code: 'x',
    detail: 'y',
  });
  assert.equal(parseProblem('<html>'), undefined);
});
