//! RTCP (RFC 3550 §6, RFC 4585, RFC 5104): what peers report, and what the server does.

use std::time::Duration;

use bytes::Bytes;
use rtc_rtcp::{
    Packet,
    extended_report::{DLRRReportBlock, ExtendedReport, ReceiverReferenceTimeReportBlock},
    goodbye::Goodbye,
    packet::{marshal, unmarshal},
    payload_feedbacks::{
        full_intra_request::FullIntraRequest, picture_loss_indication::PictureLossIndication,
        receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate,
    },
    receiver_report::ReceiverReport,
    reception_report::ReceptionReport,
    sender_report::SenderReport,
    source_description::{
        SdesType, SourceDescription, SourceDescriptionChunk, SourceDescriptionItem,
    },
    transport_feedbacks::{
        transport_layer_cc::{
            PacketStatusChunk, RecvDelta, RunLengthChunk, StatusChunkTypeTcc, StatusVectorChunk,
            SymbolSizeTypeTcc, SymbolTypeTcc, TransportLayerCc,
        },
        transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers},
    },
};

use super::feedback::ArrivalReport;
use crate::{Ssrc, reception::Block, sequence::low32, subscription::SenderState, twcc::Feedback};

/// One thing a peer reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// The peer's clock: RTP timestamp `timestamp` was sampled at `ntp`.
    Sender {
        /// The peer's stream.
        ssrc: Ssrc,
        /// NTP timestamp.
        ntp: u64,
        /// RTP timestamp.
        timestamp: u32,
    },
    /// How a stream of the server is received.
    Reception {
        /// The server's stream.
        ssrc: Ssrc,
        /// 256ths lost since the last report.
        fraction_lost: u8,
        /// The highest sequence number received, with its wraps counted.
        highest: u32,
        /// The middle of the NTP time of the last sender report that arrived; 0 for none.
        last_sender_report: u32,
        /// How long ago that was, in units of 1/65536 s.
        delay: u32,
    },
    /// The answer to a reference time (RFC 3611 §4.5).
    ReferenceTime {
        /// The middle of the last one's NTP time; 0 for none.
        last: u32,
        /// How long ago that came, in units of 1/65536 s.
        delay: u32,
    },
    /// When packets arrived, by their transport-wide numbers.
    Arrivals(ArrivalReport),
    /// What the peer believes it can receive (draft-alvestrand-rmcat-remb), bit/s.
    Bitrate(u64),
    /// Packets of a stream of the server are missing; at most [`MAX_NACKED`].
    Nack {
        /// The server's stream.
        ssrc: Ssrc,
        /// Their sequence numbers.
        seqs: Vec<u16>,
    },
    /// A keyframe of a stream of the server is needed (PLI or FIR).
    Keyframe {
        /// The server's stream.
        ssrc: Ssrc,
    },
    /// The peer stopped sending a stream.
    Goodbye {
        /// The peer's stream.
        ssrc: Ssrc,
    },
}

/// Reads a compound packet; `None` when its packets do not add up. A packet inside that cannot be read is
/// passed over: peers send kinds that nobody here needs.
pub(crate) fn parse(compound: &Bytes) -> Option<Vec<Report>> {
    let mut rest = compound.clone();
    let mut reports = Vec::new();
    while !rest.is_empty() {
        let (&[_, _, high, low], _) = rest.split_first_chunk()?;
        let words = usize::from(u16::from_be_bytes([high, low])) + 1;
        if words * 4 > rest.len() {
            return None;
        }
        let mut packet = rest.split_to(words * 4);
        if ArrivalReport::is(&packet) {
            reports.extend(ArrivalReport::parse(&packet).map(Report::Arrivals));
            continue;
        }
        for packet in unmarshal(&mut packet).unwrap_or_default() {
            read(packet.as_ref(), &mut reports);
        }
    }
    Some(reports)
}

fn read(packet: &dyn Packet, reports: &mut Vec<Report>) {
    let any = packet.as_any();
    if let Some(report) = any.downcast_ref::<SenderReport>() {
        reports.push(Report::Sender {
            ssrc: Ssrc(report.ssrc),
            ntp: report.ntp_time,
            timestamp: report.rtp_time,
        });
        read_blocks(&report.reports, reports);
    } else if let Some(report) = any.downcast_ref::<ReceiverReport>() {
        read_blocks(&report.reports, reports);
    } else if let Some(nack) = any.downcast_ref::<TransportLayerNack>() {
        let seqs = nack.nacks.iter().flat_map(|pair| pair.packet_list());
        reports.push(Report::Nack {
            ssrc: Ssrc(nack.media_ssrc),
            seqs: seqs.take(MAX_NACKED).collect(),
        });
    } else if let Some(pli) = any.downcast_ref::<PictureLossIndication>() {
        reports.push(Report::Keyframe {
            ssrc: Ssrc(pli.media_ssrc),
        });
    } else if let Some(fir) = any.downcast_ref::<FullIntraRequest>() {
        let entries = fir.fir.iter().take(MAX_SOURCES);
        reports.extend(entries.map(|entry| Report::Keyframe {
            ssrc: Ssrc(entry.ssrc),
        }));
    } else if let Some(remb) = any.downcast_ref::<ReceiverEstimatedMaximumBitrate>() {
        if remb.bitrate.is_finite() && remb.bitrate >= 0.0 {
            reports.push(Report::Bitrate(whole(remb.bitrate)));
        }
    } else if let Some(extended) = any.downcast_ref::<ExtendedReport>() {
        let blocks = extended.reports.iter().map(|block| block.as_any());
        let blocks = blocks.filter_map(|block| block.downcast_ref::<DLRRReportBlock>());
        let mut answers = blocks.flat_map(|block| &block.reports);
        if let Some(answer) = answers.find(|answer| answer.ssrc == SERVER.0) {
            reports.push(Report::ReferenceTime {
                last: answer.last_rr,
                delay: answer.dlrr,
            });
        }
    } else if let Some(goodbye) = any.downcast_ref::<Goodbye>() {
        let sources = goodbye.sources.iter().take(MAX_SOURCES);
        reports.extend(sources.map(|ssrc| Report::Goodbye { ssrc: Ssrc(*ssrc) }));
    }
}

fn read_blocks(blocks: &[ReceptionReport], reports: &mut Vec<Report>) {
    reports.extend(blocks.iter().map(|block| Report::Reception {
        ssrc: Ssrc(block.ssrc),
        fraction_lost: block.fraction_lost,
        highest: block.last_sequence_number,
        last_sender_report: block.last_sender_report,
        delay: block.delay,
    }));
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is finite and not negative, and the cast saturates"
)]
fn whole(bitrate: f32) -> u64 {
    bitrate as u64
}

/// Returns the round-trip time that a reception block, or the answer to a reference time, shows at an NTP time
/// (RFC 3550 §6.4.1).
pub(crate) fn round_trip(ntp: u64, last_sender_report: u32, delay: u32) -> Option<Duration> {
    let rtt = low32(ntp >> 16)
        .wrapping_sub(last_sender_report)
        .wrapping_sub(delay);
    // Beyond ten seconds it is a clock that runs too fast.
    let is_sane = last_sender_report != 0 && rtt < 10 << 16;
    is_sane.then(|| Duration::from_micros((u64::from(rtt) * 1_000_000) >> 16))
}

/// A compound packet in the making.
#[derive(Debug, Default)]
pub(crate) struct Compound {
    packets: Vec<Box<dyn Packet>>,
}

impl Compound {
    /// Adds a request for packets of a peer's stream.
    pub(crate) fn nack(&mut self, ssrc: Ssrc, seqs: &[u16]) {
        self.packets.push(Box::new(TransportLayerNack {
            sender_ssrc: SERVER.0,
            media_ssrc: ssrc.0,
            nacks: nack_pairs_from_sequence_numbers(seqs),
        }));
    }

    /// Adds a keyframe request for a peer's stream.
    pub(crate) fn keyframe(&mut self, ssrc: Ssrc) {
        self.packets.push(Box::new(PictureLossIndication {
            sender_ssrc: SERVER.0,
            media_ssrc: ssrc.0,
        }));
    }

    /// Adds a receiver report about a peer's streams, at most 31.
    pub(crate) fn receiver_report(&mut self, blocks: &[(Ssrc, Block)]) {
        let blocks = blocks.iter().take(MAX_SOURCES);
        let reports = blocks.map(|(ssrc, block)| ReceptionReport {
            ssrc: ssrc.0,
            fraction_lost: block.fraction_lost,
            total_lost: block.total_lost,
            last_sequence_number: block.highest,
            jitter: block.jitter,
            last_sender_report: block.last_sender_report,
            delay: block.delay,
        });
        self.packets.push(Box::new(ReceiverReport {
            ssrc: SERVER.0,
            reports: reports.collect(),
            ..ReceiverReport::default()
        }));
        self.describe(SERVER);
    }

    /// Adds a sender report of a stream of the server.
    pub(crate) fn sender_report(&mut self, state: &SenderState, ntp: u64) {
        self.packets.push(Box::new(SenderReport {
            ssrc: state.ssrc.0,
            ntp_time: ntp,
            rtp_time: state.timestamp,
            packet_count: state.packets,
            octet_count: state.octets,
            ..SenderReport::default()
        }));
        self.describe(state.ssrc);
    }

    /// Adds the server's time (RFC 3611 §4.4): who answers tells the round-trip time, although it is sent no media.
    pub(crate) fn reference_time(&mut self, ntp: u64) {
        self.packets.push(Box::new(ExtendedReport {
            sender_ssrc: SERVER.0,
            reports: vec![Box::new(ReceiverReferenceTimeReportBlock {
                ntp_timestamp: ntp,
            })],
        }));
    }

    /// Adds the bitrate that the server can receive (draft-alvestrand-rmcat-remb), bit/s.
    pub(crate) fn bitrate(&mut self, bits_per_second: f32, ssrcs: &[Ssrc]) {
        self.packets.push(Box::new(ReceiverEstimatedMaximumBitrate {
            sender_ssrc: SERVER.0,
            bitrate: bits_per_second,
            ssrcs: ssrcs.iter().map(|ssrc| ssrc.0).collect(),
        }));
    }

    /// Adds transport-wide feedback. `ssrc` is any stream of the peer.
    pub(crate) fn feedback(&mut self, ssrc: Ssrc, feedback: &Feedback) {
        let symbols: Vec<_> = feedback.deltas.iter().map(|d| symbol(*d)).collect();
        let deltas = feedback.deltas.iter().zip(&symbols);
        self.packets.push(Box::new(TransportLayerCc {
            sender_ssrc: SERVER.0,
            media_ssrc: ssrc.0,
            base_sequence_number: feedback.base,
            packet_status_count: u16::try_from(symbols.len()).unwrap_or(u16::MAX),
            reference_time: feedback.reference_time,
            fb_pkt_count: feedback.count,
            packet_chunks: chunks(&symbols),
            recv_deltas: deltas
                .filter_map(|(delta, symbol)| {
                    Some(RecvDelta {
                        type_tcc_packet: *symbol,
                        delta: i64::from((*delta)?) * 250,
                    })
                })
                .collect(),
        }));
    }

    /// Returns the compound packet; `None` when nothing was added.
    pub(crate) fn finish(self) -> Option<Bytes> {
        if self.packets.is_empty() {
            return None;
        }
        marshal(&self.packets).ok().map(|bytes| bytes.freeze())
    }

    fn describe(&mut self, ssrc: Ssrc) {
        self.packets.push(Box::new(SourceDescription {
            chunks: vec![SourceDescriptionChunk {
                source: ssrc.0,
                items: vec![SourceDescriptionItem {
                    sdes_type: SdesType::SdesCname,
                    text: Bytes::from_static(CNAME),
                }],
            }],
        }));
    }
}

fn symbol(delta: Option<i16>) -> SymbolTypeTcc {
    match delta {
        None => SymbolTypeTcc::PacketNotReceived,
        Some(0..=255) => SymbolTypeTcc::PacketReceivedSmallDelta,
        Some(_) => SymbolTypeTcc::PacketReceivedLargeDelta,
    }
}

/// Runs of equal symbols as one chunk, the rest seven by seven.
fn chunks(mut symbols: &[SymbolTypeTcc]) -> Vec<PacketStatusChunk> {
    let mut chunks = Vec::new();
    while let Some(first) = symbols.first() {
        let run = symbols.iter().take_while(|symbol| *symbol == first).count();
        let (len, chunk) = if run >= VECTOR_LEN || run == symbols.len() {
            (run, run_of(*first, run))
        } else {
            (VECTOR_LEN, vector_of(symbols))
        };
        chunks.push(chunk);
        symbols = symbols.get(len..).unwrap_or_default();
    }
    chunks
}

fn run_of(symbol: SymbolTypeTcc, len: usize) -> PacketStatusChunk {
    PacketStatusChunk::RunLengthChunk(RunLengthChunk {
        type_tcc: StatusChunkTypeTcc::RunLengthChunk,
        packet_status_symbol: symbol,
        run_length: u16::try_from(len).unwrap_or(u16::MAX),
    })
}

fn vector_of(symbols: &[SymbolTypeTcc]) -> PacketStatusChunk {
    let padding = std::iter::repeat(SymbolTypeTcc::PacketNotReceived);
    PacketStatusChunk::StatusVectorChunk(StatusVectorChunk {
        type_tcc: StatusChunkTypeTcc::StatusVectorChunk,
        symbol_size: SymbolSizeTypeTcc::TwoBit,
        symbol_list: symbols
            .iter()
            .copied()
            .chain(padding)
            .take(VECTOR_LEN)
            .collect(),
    })
}

/// The server's own SSRC in packets to publishers, to whom it sends no media.
const SERVER: Ssrc = Ssrc(1);

/// One name for everything the server sends, so that receivers play it in step.
const CNAME: &[u8] = b"fanlight";

/// Most sequence numbers taken from one request.
const MAX_NACKED: usize = 256;
const MAX_SOURCES: usize = 31;
const VECTOR_LEN: usize = 7;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rtc_rtcp::extended_report::DLRRReport;

    use super::*;

    fn reports(build: impl FnOnce(&mut Compound)) -> Vec<Report> {
        let mut compound = Compound::default();
        build(&mut compound);
        parse(&compound.finish().unwrap()).unwrap()
    }

    #[test]
    fn what_is_written_can_be_read() {
        let ssrc = Ssrc(7);
        assert_eq!(
            reports(|c| c.nack(ssrc, &[65_535, 0, 20])),
            [Report::Nack {
                ssrc,
                seqs: vec![65_535, 0, 20]
            }]
        );
        assert_eq!(reports(|c| c.keyframe(ssrc)), [Report::Keyframe { ssrc }]);
        let state = SenderState {
            ssrc,
            timestamp: 5,
            packets: 1,
            octets: 2,
        };
        assert_eq!(
            reports(|c| c.sender_report(&state, 9)),
            [Report::Sender {
                ssrc,
                ntp: 9,
                timestamp: 5
            }]
        );
        let block = Block {
            fraction_lost: 3,
            total_lost: 4,
            highest: 5,
            jitter: 6,
            last_sender_report: 7,
            delay: 8,
        };
        assert_eq!(
            reports(|c| c.receiver_report(&[(ssrc, block)])),
            [Report::Reception {
                ssrc,
                fraction_lost: 3,
                highest: 5,
                last_sender_report: 7,
                delay: 8,
            }]
        );
        assert_eq!(
            reports(|c| c.bitrate(512_000.0, &[ssrc])),
            [Report::Bitrate(512_000)]
        );
    }

    #[test]
    fn answers_to_reference_times_are_read() {
        let none: [Report; 0] = [];
        assert_eq!(reports(|c| c.reference_time(9)), none);
        let answer = |ssrc| DLRRReportBlock {
            reports: vec![
                DLRRReport {
                    ssrc: 99,
                    last_rr: 1,
                    dlrr: 2,
                },
                DLRRReport {
                    ssrc,
                    last_rr: 3,
                    dlrr: 4,
                },
            ],
        };
        for (ssrc, expected) in [
            (SERVER.0, &[Report::ReferenceTime { last: 3, delay: 4 }][..]),
            (98, &[]),
        ] {
            let report = ExtendedReport {
                sender_ssrc: 7,
                reports: vec![Box::new(answer(ssrc))],
            };
            let found = reports(|c| c.packets.push(Box::new(report)));
            assert_eq!(found, expected, "{ssrc}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_passed_over() {
        let unknown = [0x80, 199, 0, 1, 0, 0, 0, 0];
        let cut_off = [0x81, 205, 0, 1, 0, 0, 0, 0];
        let pli = [0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 7];
        let compound = [&unknown[..], &cut_off, &pli].concat();
        let expected = [Report::Keyframe { ssrc: Ssrc(7) }];
        assert_eq!(parse(&compound.into()).unwrap(), expected);
        assert_eq!(parse(&Bytes::from_static(&[0x81, 206, 0, 2, 0])), None);
    }

    #[test]
    fn nothing_added_is_no_packet() {
        assert_eq!(Compound::default().finish(), None);
    }

    proptest! {
        #[test]
        fn feedback_survives_the_wire(
            deltas in prop::collection::vec(
                prop::option::weighted(0.8, prop_oneof![0_i16..4, any::<i16>()]), 1..400
            ),
            base: u16,
            reference_time in 0_u32..1 << 24,
        ) {
            prop_assume!(deltas.iter().any(Option::is_some));
            let feedback = Feedback { base, reference_time, count: 3, deltas };
            let mut compound = Compound::default();
            compound.feedback(Ssrc(1), &feedback);
            let reports = parse(&compound.finish().unwrap()).unwrap();
            let [Report::Arrivals(report)] = &reports[..] else {
                panic!("{reports:?}");
            };
            let mut at = i64::from(feedback.reference_time) * 64_000;
            let expected = feedback.deltas.iter().enumerate().map(|(n, delta)| {
                at += i64::from(delta.unwrap_or(0)) * 250;
                (base.wrapping_add(n as u16), delta.map(|_| at))
            });
            prop_assert!(report.arrivals().eq(expected));
        }

        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..128)) {
            parse(&Bytes::from(bytes));
        }

        #[test]
        fn arrival_reports_never_panic(tail in prop::collection::vec(any::<u8>(), 0..128)) {
            let mut packet = vec![0x8f, 205, 0, (tail.len() / 4) as u8];
            packet.extend(tail);
            packet.truncate(packet.len() / 4 * 4);
            for report in parse(&Bytes::from(packet)).unwrap() {
                if let Report::Arrivals(report) = report {
                    assert!(report.arrivals().count() <= 2048);
                }
            }
        }
    }
}
