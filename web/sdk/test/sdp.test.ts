import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  chooseVideoCodecs,
  iceFragment,
  withIceCredentials,
  withoutVideoOrientation,
  withStartBitrate,
  withStereo,
} from '../src/sdp.ts';

const sdp = [
  'v=0',
  'm=audio 9 UDP/TLS/RTP/SAVPF 111 63',
  'a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level',
  'a=rtpmap:111 opus/48000/2',
  'a=fmtp:111 minptime=10;useinbandfec=1',
  'a=rtpmap:63 red/48000/2',
  'm=video 9 UDP/TLS/RTP/SAVPF 96 97 102',
  'a=extmap:3 urn:3gpp:video-orientation',
  'a=rtpmap:96 VP8/90000',
  'a=rtpmap:97 rtx/90000',
  'a=fmtp:97 apt=96',
  'a=rtpmap:102 H264/90000',
  'a=fmtp:102 packetization-mode=1;profile-level-id=42e01f',
  '',
].join('\r\n');

test('only the video orientation is taken out', () => {
  const changed = withoutVideoOrientation(sdp);
  assert.ok(!changed.includes('video-orientation'));
  assert.equal(changed.length, sdp.length - 'a=extmap:3 urn:3gpp:video-orientation\r\n'.length);
});

test('the start bitrate goes to each video codec and not to retransmissions', () => {
  const changed = withStartBitrate(sdp, 1200);
  assert.match(changed, /a=fmtp:96 x-google-start-bitrate=1200\r\n/);
  assert.match(changed, /a=fmtp:102 .*42e01f;x-google-start-bitrate=1200\r\n/);
  assert.match(changed, /a=fmtp:97 apt=96\r\n/);
  assert.ok(changed.endsWith('\r\n'));
});

test('stereo is asked for once, of Opus alone', () => {
  const changed = withStereo(withStereo(sdp));
  assert.match(changed, /a=fmtp:111 minptime=10;useinbandfec=1;stereo=1;sprop-stereo=1\r\n/);
  assert.equal(changed.match(/sprop-stereo/g)?.length, 1);
});

test('the preferred codec is offered alone, in what is forwarded', () => {
  const codec = (mimeType: string, sdpFmtpLine?: string) => ({ mimeType, sdpFmtpLine });
  const vp8 = codec('video/VP8');
  const rtx = codec('video/rtx');
  const base = codec('video/H264', 'packetization-mode=1;profile-level-id=42001f');
  const constrained = codec('video/H264', 'packetization-mode=1;profile-level-id=42e01f');
  const mode0 = codec('video/H264', 'packetization-mode=0;profile-level-id=42e01f');
  const high = codec('video/H264', 'packetization-mode=1;profile-level-id=640c1f');
  const all = [vp8, rtx, codec('video/VP9'), base, mode0, constrained, high, codec('video/AV1')];
  assert.deepEqual(chooseVideoCodecs(all, 'h264'), [constrained, base, rtx]);
  assert.deepEqual(chooseVideoCodecs(all, 'vp8'), [vp8, rtx]);
  assert.deepEqual(chooseVideoCodecs([vp8, rtx], 'h264'), [vp8, rtx], 'a browser without H264');
});

test('a restart sends the new credentials alone and puts the answered ones everywhere', () => {
  const bundled = [
    'm=audio 9',
    'a=ice-ufrag:new',
    'a=ice-pwd:pass',
    'm=video 9',
    'a=ice-ufrag:new',
  ];
  assert.equal(iceFragment(bundled.join('\r\n')), 'a=ice-ufrag:new\r\na=ice-pwd:pass\r\n');
  assert.equal(
    withIceCredentials(bundled.join('\r\n'), { ufrag: 'u', pwd: 'p' }),
    ['m=audio 9', 'a=ice-ufrag:u', 'a=ice-pwd:p', 'm=video 9', 'a=ice-ufrag:u'].join('\r\n'),
  );
});
