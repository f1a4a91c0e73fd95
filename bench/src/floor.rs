//! The floor: what forwarding costs when there is nothing but encryption and system calls.
//!
//! Each packet is copied, given a header and sealed with the viewer's own AES-128-GCM key (RFC 7714), then
//! sent with `sendmmsg`, optionally as runs that the kernel splits.

use std::{
    io::{self, IoSlice},
    net::{SocketAddr, UdpSocket},
    thread,
    time::Instant,
};

use anyhow::{Context, bail};
use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use nix::sys::socket::{setsockopt, sockopt};
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, sendmmsg};

use crate::{
    child::{Request, Totals, requests, write_line},
    usage::Usage,
};

/// Answers requests to send until the parent has gone.
///
/// # Errors
/// When a request cannot be understood or the system refuses.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut packets = 0;
    for request in requests() {
        let request = request?;
        packets += send(&request)?;
        let usage = Usage::of(std::process::id())?;
        write_line(io::stdout().lock(), &Totals { usage, packets })?;
    }
    Ok(())
}

/// One viewer.
struct Viewer {
    name: SocketAddrAny,
    key: LessSafeKey,
    ssrc: u32,
    seq: u16,
}

impl Viewer {
    fn new(ssrc: u32, to: SocketAddr) -> anyhow::Result<Self> {
        let [a, b, c, d] = ssrc.to_be_bytes();
        let key = [a, b, c, d, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7];
        let Ok(key) = UnboundKey::new(&AES_128_GCM, &key) else {
            bail!("the key has the wrong length");
        };
        Ok(Self {
            name: SocketAddrAny::from(to),
            key: LessSafeKey::new(key),
            ssrc,
            seq: 0,
        })
    }

    /// Appends one sealed packet.
    fn seal(&mut self, payload: &[u8], out: &mut Vec<u8>) -> anyhow::Result<()> {
        self.seq = self.seq.wrapping_add(1);
        let mut header = [0x80, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        header[2..4].copy_from_slice(&self.seq.to_be_bytes());
        header[8..].copy_from_slice(&self.ssrc.to_be_bytes());
        let mut nonce = [0; 12];
        nonce[2..6].copy_from_slice(&header[8..]);
        nonce[10..].copy_from_slice(&header[2..4]);
        out.extend_from_slice(&header);
        let start = out.len();
        out.extend_from_slice(payload);
        let sealed = self.key.seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(header),
            &mut out[start..],
        );
        let Ok(tag) = sealed else {
            bail!("the packet cannot be sealed");
        };
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }
}

/// Sends the stream to all viewers. Returns how many packets were sent.
fn send(request: &Request) -> anyhow::Result<u64> {
    let socket = UdpSocket::bind("127.0.0.1:0").context("open a socket")?;
    let mut viewers: Vec<Viewer> = (0..)
        .zip(&request.to)
        .map(|(index, to)| Viewer::new(index, *to))
        .collect::<anyhow::Result<_>>()?;
    let start = Instant::now();
    let mut sent = 0;
    let mut batch = Vec::new();
    for (at, lengths) in request.schedule.groups() {
        if at > request.time {
            break;
        }
        thread::sleep((start + at).saturating_duration_since(Instant::now()));
        sent += send_batch(&socket, &mut viewers, &lengths, request.offload, &mut batch)?;
    }
    Ok(sent)
}

/// Sends packets of these payload lengths to every viewer.
fn send_batch(
    socket: &UdpSocket,
    viewers: &mut [Viewer],
    lengths: &[usize],
    offload: bool,
    batch: &mut Vec<u8>,
) -> anyhow::Result<u64> {
    batch.clear();
    for viewer in viewers.iter_mut() {
        for len in lengths {
            viewer.seal(&PAYLOAD[..*len], batch)?;
        }
    }
    let sealed = |len: &usize| len + OVERHEAD;
    let per_viewer: usize = lengths.iter().map(sealed).sum();
    let even = lengths.iter().all(|len| *len == lengths[0]);
    let run = offload && even && lengths.len() > 1;
    let segment = if run { sealed(&lengths[0]) } else { 0 };
    let segment = i32::try_from(segment).context("convert the length")?;
    setsockopt(socket, sockopt::UdpGsoSegment, &segment).context("ask for segmentation")?;
    let mut names = Vec::new();
    let mut slices = Vec::new();
    for (viewer, mut bytes) in viewers.iter().zip(batch.chunks(per_viewer)) {
        if run {
            names.push(&viewer.name);
            slices.push([IoSlice::new(bytes)]);
            continue;
        }
        for len in lengths {
            let (datagram, rest) = bytes.split_at(sealed(len));
            names.push(&viewer.name);
            slices.push([IoSlice::new(datagram)]);
            bytes = rest;
        }
    }
    let mut control: Vec<_> = names
        .iter()
        .map(|_| SendAncillaryBuffer::default())
        .collect();
    let mut messages: Vec<MMsgHdr<'_>> = names
        .iter()
        .zip(&slices)
        .zip(&mut control)
        .map(|((name, slice), control)| MMsgHdr::new_with_addr(name, slice, control))
        .collect();
    let mut rest = messages.as_mut_slice();
    while !rest.is_empty() {
        let most = rest.len().min(1024);
        let count = sendmmsg(socket, &mut rest[..most], SendFlags::empty()).context("send")?;
        rest = &mut rest[count..];
    }
    Ok((viewers.len() * lengths.len()) as u64)
}

/// RTP header and authentication tag.
const OVERHEAD: usize = 12 + 16;

static PAYLOAD: [u8; 1500] = [0x5a; 1500];
