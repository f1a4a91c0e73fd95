//! Fragmented MP4 (ISO/IEC 14496-12) of one H.264 and one AAC track: boxes and bytes, no policy.

use mp4_atom::{
    Atom, Audio, Avc1, Avcc, Dinf, Dref, Encode, Esds, FourCC, Ftyp, Hdlr, Mdat, Mdhd, Mdia, Mfhd,
    Minf, Moof, Moov, Mp4a, Mvex, Mvhd, Smhd, Stbl, Stco, Stsd, Styp, Tfdt, Tfhd, Tkhd, Traf, Trak,
    Trex, Trun, TrunEntry, Visual, Vmhd,
    esds::{DecoderConfig, DecoderSpecific, EsDescriptor, SLConfig},
};
use thiserror::Error;

/// Ticks per second of the video track.
pub(crate) const VIDEO_TIMESCALE: u32 = 90_000;
/// Ticks per second of the audio track, which is its sample rate.
pub(crate) const AUDIO_TIMESCALE: u32 = 48_000;

/// The H.264 format: what the decoder needs before the first picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VideoFormat {
    /// `AVCDecoderConfigurationRecord` (ISO/IEC 14496-15).
    pub(crate) avcc: Vec<u8>,
    pub(crate) width: u16,
    pub(crate) height: u16,
}

/// The AAC format, 48 kHz stereo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AudioFormat {
    /// `AudioSpecificConfig` (ISO/IEC 14496-3).
    pub(crate) config: Vec<u8>,
}

/// One access unit. Times are in the track's timescale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) time: u64,
    pub(crate) duration: u32,
    pub(crate) keyframe: bool,
    pub(crate) data: Vec<u8>,
}

/// Why boxes could not be written.
#[derive(Debug, Error)]
pub(crate) enum Fmp4Error {
    #[error("write an MP4 box: {0}")]
    Atom(#[from] mp4_atom::Error),
    #[error("a fragment is larger than 2 GiB")]
    TooLarge,
}

/// Returns the initialisation segment. At least one format must be given.
pub(crate) fn init(
    video: Option<&VideoFormat>,
    audio: Option<&AudioFormat>,
) -> Result<Vec<u8>, Fmp4Error> {
    let mut traks = Vec::new();
    if let Some(video) = video {
        traks.push(video_trak(video)?);
    }
    if let Some(audio) = audio {
        traks.push(audio_trak(audio));
    }
    let trex = traks.iter().map(|trak| Trex {
        track_id: trak.tkhd.track_id,
        default_sample_description_index: 1,
        ..Trex::default()
    });
    let moov = Moov {
        mvhd: Mvhd {
            timescale: 1000,
            rate: 1.into(),
            volume: 1.into(),
            next_track_id: AUDIO_TRACK + 1,
            ..Mvhd::default()
        },
        mvex: Some(Mvex {
            mehd: None,
            trex: trex.collect(),
        }),
        trak: traks,
        ..Moov::default()
    };
    let mut bytes = Vec::with_capacity(1024);
    Ftyp {
        major_brand: b"iso6".into(),
        minor_version: 0,
        compatible_brands: brands([b"iso6", b"cmfc", b"mp41"]),
    }
    .encode(&mut bytes)?;
    moov.encode(&mut bytes)?;
    Ok(bytes)
}

/// Returns the box that a media segment starts with.
pub(crate) fn segment_start() -> Result<Vec<u8>, Fmp4Error> {
    let mut bytes = Vec::with_capacity(32);
    Styp {
        major_brand: b"msdh".into(),
        minor_version: 0,
        compatible_brands: brands([b"msdh", b"msix", b"cmfs"]),
    }
    .encode(&mut bytes)?;
    Ok(bytes)
}

/// Appends one fragment (`moof` and `mdat`). Tracks without samples are left out.
pub(crate) fn fragment(
    sequence: u32,
    video: &[Sample],
    audio: &[Sample],
    to: &mut Vec<u8>,
) -> Result<(), Fmp4Error> {
    let tracks = [(VIDEO_TRACK, video), (AUDIO_TRACK, audio)];
    let tracks: Vec<_> = tracks.into_iter().filter(|(_, s)| !s.is_empty()).collect();
    // Offsets count from the start of the moof, whose length does not depend on their values.
    let mut measured = Vec::with_capacity(512);
    moof(sequence, &tracks, 0)?.encode(&mut measured)?;
    moof(sequence, &tracks, measured.len() + MDAT_HEADER)?.encode(to)?;
    let data = tracks
        .iter()
        .flat_map(|(_, samples)| samples.iter())
        .flat_map(|sample| sample.data.iter().copied())
        .collect();
    Mdat { data }.encode(to)?;
    Ok(())
}

fn moof(sequence: u32, tracks: &[(u32, &[Sample])], data_starts: usize) -> Result<Moof, Fmp4Error> {
    let mut offset = data_starts;
    let mut traf = Vec::with_capacity(tracks.len());
    for (track_id, samples) in tracks {
        let mut entries = Vec::with_capacity(samples.len());
        let mut length = 0;
        for sample in *samples {
            length += sample.data.len();
            entries.push(TrunEntry {
                duration: Some(sample.duration),
                size: Some(u32::try_from(sample.data.len()).map_err(|_| Fmp4Error::TooLarge)?),
                flags: Some(if sample.keyframe {
                    SYNC_SAMPLE
                } else {
                    DELTA_SAMPLE
                }),
                cts: None,
            });
        }
        traf.push(Traf {
            tfhd: Tfhd {
                track_id: *track_id,
                default_base_is_moof: true,
                ..Tfhd::default()
            },
            tfdt: Some(Tfdt {
                base_media_decode_time: samples.first().map_or(0, |sample| sample.time),
            }),
            trun: vec![Trun {
                data_offset: Some(i32::try_from(offset).map_err(|_| Fmp4Error::TooLarge)?),
                samples: entries.into(),
            }],
            ..Traf::default()
        });
        offset += length;
    }
    Ok(Moof {
        mfhd: Mfhd {
            sequence_number: sequence,
        },
        traf,
    })
}

fn video_trak(format: &VideoFormat) -> Result<Trak, Fmp4Error> {
    let codec = Avc1 {
        visual: Visual {
            data_reference_index: 1,
            width: format.width,
            height: format.height,
            horizresolution: 72.into(),
            vertresolution: 72.into(),
            frame_count: 1,
            depth: 24,
            ..Visual::default()
        },
        avcc: Avcc::decode_body(&mut format.avcc.as_slice())?,
        ..Avc1::default()
    };
    let mut trak = trak(VIDEO_TRACK, VIDEO_TIMESCALE, *b"vide", codec.into());
    trak.tkhd.width = format.width.into();
    trak.tkhd.height = format.height.into();
    trak.mdia.minf.vmhd = Some(Vmhd::default());
    Ok(trak)
}

fn audio_trak(format: &AudioFormat) -> Trak {
    let codec = Mp4a {
        audio: Audio {
            data_reference_index: 1,
            channel_count: 2,
            sample_size: 16,
            sample_rate: 48_000.into(),
        },
        esds: Esds {
            es_desc: EsDescriptor {
                dec_config: DecoderConfig {
                    object_type_indication: MPEG4_AUDIO,
                    stream_type: AUDIO_STREAM,
                    dec_specific: Some(DecoderSpecific {
                        profile: 2,
                        freq_index: 3,
                        chan_conf: 2,
                        raw: format.config.clone(),
                    }),
                    ..DecoderConfig::default()
                },
                sl_config: SLConfig::default(),
                ..EsDescriptor::default()
            },
        },
        btrt: None,
        taic: None,
    };
    let mut trak = trak(AUDIO_TRACK, AUDIO_TIMESCALE, *b"soun", codec.into());
    trak.tkhd.volume = 1.into();
    trak.tkhd.alternate_group = 1;
    trak.mdia.minf.smhd = Some(Smhd::default());
    trak
}

fn trak(id: u32, timescale: u32, handler: [u8; 4], codec: mp4_atom::Codec) -> Trak {
    Trak {
        tkhd: Tkhd {
            track_id: id,
            enabled: true,
            in_movie: true,
            ..Tkhd::default()
        },
        mdia: Mdia {
            mdhd: Mdhd {
                timescale,
                language: "und".into(),
                ..Mdhd::default()
            },
            hdlr: Hdlr {
                handler: handler.into(),
                name: "fanlight".into(),
            },
            minf: Minf {
                dinf: Dinf {
                    dref: Dref {
                        entries: vec![mp4_atom::Url::default().into()],
                    },
                },
                stbl: Stbl {
                    stsd: Stsd {
                        codecs: vec![codec],
                    },
                    stco: Some(Stco::default()),
                    ..Stbl::default()
                },
                ..Minf::default()
            },
        },
        ..Trak::default()
    }
}

fn brands<const N: usize>(names: [&[u8; 4]; N]) -> Vec<FourCC> {
    names.into_iter().map(|name| name.into()).collect()
}

const VIDEO_TRACK: u32 = 1;
const AUDIO_TRACK: u32 = 2;
const MDAT_HEADER: usize = 8;
/// `sample_depends_on` 2: depends on no other.
const SYNC_SAMPLE: u32 = 0x0200_0000;
/// `sample_depends_on` 1 and `sample_is_non_sync_sample`.
const DELTA_SAMPLE: u32 = 0x0101_0000;
const MPEG4_AUDIO: u8 = 0x40;
const AUDIO_STREAM: u8 = 5;

#[cfg(test)]
mod tests {
    use mp4_atom::{Any, Decode};

    use super::*;

    /// Constrained baseline, 640x360.
    const AVCC: &[u8] = &[
        1, 0x42, 0xc0, 0x1e, 0xff, 0xe1, 0, 10, 0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x2f,
        0xf9, 0x70, 1, 0, 4, 0x68, 0xcb, 0x83, 0xcb,
    ];

    fn atoms(mut bytes: &[u8]) -> Vec<Any> {
        std::iter::from_fn(|| (!bytes.is_empty()).then(|| Any::decode(&mut bytes).unwrap()))
            .collect()
    }

    fn sample(time: u64, duration: u32, data: &[u8]) -> Sample {
        Sample {
            time,
            duration,
            keyframe: time == 0,
            data: data.to_vec(),
        }
    }

    #[test]
    fn init_says_what_was_given() {
        let video = VideoFormat {
            avcc: AVCC.to_vec(),
            width: 640,
            height: 360,
        };
        let audio = AudioFormat {
            config: vec![0x11, 0x90],
        };
        for (video, audio, count) in [
            (Some(&video), Some(&audio), 2),
            (None, Some(&audio), 1),
            (Some(&video), None, 1),
        ] {
            let atoms = atoms(&init(video, audio).unwrap());
            let [Any::Ftyp(_), Any::Moov(moov)] = atoms.as_slice() else {
                panic!("{atoms:?}");
            };
            assert_eq!(moov.trak.len(), count);
            assert_eq!(moov.mvex.as_ref().unwrap().trex.len(), count);
        }
    }

    #[test]
    fn broken_formats_are_errors() {
        let video = VideoFormat {
            avcc: vec![1, 2, 3],
            width: 640,
            height: 360,
        };
        assert!(init(Some(&video), None).is_err());
    }

    #[test]
    fn offsets_lead_to_the_samples() {
        let video = [
            sample(0, 3000, b"video-0"),
            sample(3000, 3000, b"video-one"),
        ];
        let audio = [sample(7, 1024, b"sound")];
        let mut bytes = segment_start().unwrap();
        let start = bytes.len();
        fragment(9, &video, &audio, &mut bytes).unwrap();
        let atoms = atoms(&bytes);
        let [Any::Styp(_), Any::Moof(moof), Any::Mdat(_)] = atoms.as_slice() else {
            panic!("{atoms:?}");
        };
        assert_eq!(moof.mfhd.sequence_number, 9);
        for (traf, samples) in moof.traf.iter().zip([&video[..], &audio[..]]) {
            let time = traf.tfdt.as_ref().unwrap().base_media_decode_time;
            assert_eq!(time, samples[0].time);
            let run = &traf.trun[0];
            let mut at = start + usize::try_from(run.data_offset.unwrap()).unwrap();
            for (entry, sample) in run.samples.iter().zip(samples) {
                let end = at + entry.size.unwrap() as usize;
                assert_eq!(&bytes[at..end], sample.data);
                assert_eq!(entry.duration, Some(sample.duration));
                at = end;
            }
        }
    }

    #[test]
    fn tracks_without_samples_are_left_out() {
        let mut bytes = Vec::new();
        fragment(1, &[], &[sample(0, 1024, b"sound")], &mut bytes).unwrap();
        let Any::Moof(moof) = &atoms(&bytes)[0] else {
            panic!("no moof");
        };
        assert_eq!(moof.traf.len(), 1);
    }
}
