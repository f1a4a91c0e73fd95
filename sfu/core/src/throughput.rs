//! What a stream takes, in all and for each quality that can be forwarded of it.

use std::time::{Duration, Instant};

use crate::frame::{Frame, LAYERS, Qualities};

/// Bitrates of one stream, smoothed.
#[derive(Debug, Default)]
pub(crate) struct Throughput {
    /// Since when the present window is counted.
    since: Option<Instant>,
    /// Bytes of packets that every quality needs.
    common: u64,
    /// Bytes of the others.
    some: [u64; QUALITIES],
    /// When each pair of layers was there last.
    seen: [Option<Instant>; QUALITIES],
    all: u64,
    rates: Option<Rates>,
    /// What each spatial layer took, with what it depends on, while it was sent; stays when it is not sent any more.
    took: [u64; LAYERS as usize],
    /// The qualities that need every packet there was.
    complete: Qualities,
    is_layered: bool,
}

/// What can be forwarded of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quality {
    /// The highest spatial layer.
    pub(crate) spatial: u8,
    /// The highest temporal layer.
    pub(crate) temporal: u8,
    /// Bit/s.
    pub(crate) bitrate: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Rates {
    all: u64,
    by_quality: [u64; QUALITIES],
    /// The layers that were there, as pairs.
    present: Qualities,
}

const QUALITIES: usize = (LAYERS * LAYERS) as usize;

impl Throughput {
    /// Counts a packet's payload.
    pub(crate) fn add(&mut self, bytes: usize, frame: &Frame, now: Instant) {
        let bytes = bytes as u64;
        // After a pause what was before it says more than its average.
        let lately = |since: &Instant| now.saturating_duration_since(*since) < PRESENT;
        if self.since.filter(lately).is_none() {
            self.begin(now);
        }
        let since = self.since.unwrap_or(now);
        self.all += bytes;
        let pair = Qualities::one(frame.spatial, frame.temporal);
        for (_, _, position) in pair.iter() {
            if let Some(seen) = self.seen.get_mut(position) {
                *seen = Some(now);
            }
        }
        if frame.needed == Qualities::ALL {
            self.common += bytes;
        } else {
            self.complete = match self.is_layered {
                true => self.complete.and(frame.needed),
                false => frame.needed,
            };
            self.is_layered = true;
            for (_, _, position) in frame.needed.iter() {
                if let Some(counted) = self.some.get_mut(position) {
                    *counted += bytes;
                }
            }
        }
        let elapsed = now.saturating_duration_since(since);
        let window = match self.rates {
            Some(_) => WINDOW,
            None => FIRST_WINDOW,
        };
        if elapsed >= window {
            self.turn(elapsed, now);
        }
    }

    /// Returns the bitrate of the whole stream, bit/s; 0 while it is too new to tell.
    pub(crate) fn total(&self) -> u64 {
        self.rates.map_or(0, |rates| rates.all)
    }

    /// Returns whether the stream has layers of its own.
    pub(crate) fn is_layered(&self) -> bool {
        self.is_layered
    }

    /// Returns what each spatial layer took with what it depends on, the lowest first, whether it is sent now or not;
    /// nothing of a stream without layers.
    pub(crate) fn spatial_layers(&self) -> &[u64] {
        let known = self.took.iter().take_while(|took| **took > 0).count();
        self.took.get(..known).unwrap_or_default()
    }

    /// Returns whether a quality needs every packet.
    pub(crate) fn is_complete(&self, quality: Qualities) -> bool {
        self.complete.meets(quality)
    }

    /// Returns the qualities to choose from in a stream with layers. Only the lowest spatial layer is offered
    /// at less than half the frame rate.
    pub(crate) fn qualities(&self) -> impl Iterator<Item = Quality> {
        let rates = self.rates.unwrap_or_default();
        let layers = || rates.present.iter();
        let highest = layers()
            .map(|(_, temporal, _)| temporal)
            .max()
            .unwrap_or_default();
        let offered =
            (0..LAYERS).filter(move |spatial| rates.present.meets(Qualities::of_spatial(*spatial)));
        let pairs = offered.flat_map(move |spatial| {
            let lowest = match spatial {
                0 => 0,
                _ => highest.saturating_sub(1),
            };
            (lowest..=highest).map(move |temporal| (spatial, temporal))
        });
        pairs.map(move |(spatial, temporal)| {
            let position = usize::from(spatial * LAYERS + temporal);
            Quality {
                spatial,
                temporal,
                bitrate: rates.by_quality.get(position).copied().unwrap_or_default(),
            }
        })
    }

    fn turn(&mut self, elapsed: Duration, now: Instant) {
        let micros = u64::try_from(elapsed.as_micros())
            .unwrap_or(u64::MAX)
            .max(1);
        let rate = |bytes: u64| bytes.saturating_mul(8_000_000) / micros;
        let mut new = Rates {
            all: rate(self.all),
            ..Rates::default()
        };
        let lately = |at: Instant| now.saturating_duration_since(at) < PRESENT;
        for (spatial, temporal, position) in Qualities::ALL.iter() {
            if self
                .seen
                .get(position)
                .is_some_and(|seen| seen.is_some_and(lately))
            {
                new.present = new.present.or(Qualities::one(spatial, temporal));
            }
        }
        for (to, bytes) in new.by_quality.iter_mut().zip(self.some) {
            *to = rate(self.common + bytes);
        }
        if let Some(old) = self.rates {
            new.all = smooth(old.all, new.all);
            for (to, old) in new.by_quality.iter_mut().zip(old.by_quality) {
                *to = smooth(old, *to);
            }
        }
        self.note_spatial_layers(&new);
        self.rates = Some(new);
        self.begin(now);
    }

    /// The stream begins anew. What its layers took is still the best guess.
    pub(crate) fn restart(&mut self) {
        *self = Self {
            took: self.took,
            ..Self::default()
        };
    }

    /// Takes the rates of the spatial layers of which something came in the window that ends: the higher ones of
    /// before it and after, as a layer may have stopped in its middle.
    fn note_spatial_layers(&mut self, new: &Rates) {
        let before = self.rates.unwrap_or_default();
        let came = |position: usize| {
            let seen = self.seen.get(position).copied().flatten();
            self.is_layered
                && seen
                    .zip(self.since)
                    .is_some_and(|(seen, since)| seen > since)
        };
        for spatial in 0..LAYERS {
            let pairs = Qualities::of_spatial(spatial).iter();
            let sent = pairs.filter(|(.., position)| came(*position));
            let rates = sent.flat_map(|(.., position)| {
                [new, &before].map(|rates| rates.by_quality.get(position).copied())
            });
            let most = rates.flatten().max();
            if let Some((took, most)) = self.took.get_mut(usize::from(spatial)).zip(most) {
                *took = most.max(1);
            }
        }
    }

    /// Counts from here on.
    fn begin(&mut self, now: Instant) {
        self.since = Some(now);
        (self.all, self.common) = (0, 0);
        self.some = [0; QUALITIES];
    }
}

/// Keyframes make windows differ; growth is believed sooner than decline.
fn smooth(old: u64, new: u64) -> u64 {
    match new > old {
        true => (old + new) / 2,
        false => (2 * old + new) / 3,
    }
}

const WINDOW: Duration = Duration::from_millis(500);

/// How long a layer may be silent: screens that show nothing new are sent once a second.
const PRESENT: Duration = Duration::from_secs(3);

/// The first estimate, sooner and rougher.
const FIRST_WINDOW: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(spatial: u8, temporal: u8, needed: Qualities) -> Frame {
        Frame {
            spatial,
            temporal,
            needed,
            ..Frame::whole(false, true)
        }
    }

    #[test]
    fn a_stream_without_layers_has_one_bitrate() {
        let t0 = Instant::now();
        let mut throughput = Throughput::default();
        for n in 0..300 {
            let now = t0 + Duration::from_millis(n * 10);
            throughput.add(1250, &Frame::whole(n == 0, true), now);
        }
        assert!(throughput.total().abs_diff(1_000_000) < 40_000);
        assert!(!throughput.is_layered());
    }

    #[test]
    fn temporal_layers_add_up() {
        let t0 = Instant::now();
        let mut throughput = Throughput::default();
        for n in 0..400_u64 {
            let temporal = [0, 2, 1, 2][(n % 4) as usize];
            let now = t0 + Duration::from_millis(n * 10);
            let frame = frame(0, temporal, Qualities::from_temporal(temporal));
            throughput.add(1250, &frame, now);
        }
        let qualities: Vec<_> = throughput.qualities().collect();
        assert_eq!(qualities.len(), 3);
        for (quality, expected) in qualities.into_iter().zip([250_000, 500_000, 1_000_000]) {
            let off = quality.bitrate.abs_diff(expected);
            assert!(off < expected / 20, "{quality:?}");
            let one = Qualities::one(0, quality.temporal);
            assert_eq!(throughput.is_complete(one), quality.temporal == 2);
        }
    }

    #[test]
    fn a_stream_that_comes_back_is_as_it_was() {
        let t0 = Instant::now();
        let mut throughput = Throughput::default();
        let feed = |throughput: &mut Throughput, frames: std::ops::Range<u64>| {
            for n in frames {
                let temporal = [0, 2, 1, 2][(n % 4) as usize];
                let now = t0 + Duration::from_millis(n * 10);
                let frame = frame(0, temporal, Qualities::from_temporal(temporal));
                throughput.add(1250, &frame, now);
            }
        };
        feed(&mut throughput, 0..400);
        for (frames, label) in [(1400..1401, "at once"), (1401..1500, "later")] {
            feed(&mut throughput, frames);
            let best = throughput.qualities().last().unwrap();
            assert_eq!(best.temporal, 2, "{label}");
            assert!(
                best.bitrate.abs_diff(1_000_000) < 50_000,
                "{label}: {best:?}"
            );
        }
    }

    #[test]
    fn a_layer_that_stops_is_not_offered_any_more() {
        let t0 = Instant::now();
        let mut throughput = Throughput::default();
        for n in 0..550_u64 {
            let spatial = if n < 200 { (n % 3) as u8 } else { 0 };
            let now = t0 + Duration::from_millis(n * 10);
            let frame = frame(spatial, 0, Qualities::from_spatial(spatial));
            throughput.add(1250, &frame, now);
            if n == 199 {
                assert_eq!(throughput.qualities().count(), 3);
            }
        }
        assert_eq!(throughput.qualities().count(), 1);
    }
}
