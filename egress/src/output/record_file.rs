//! One fragmented file of a recording.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    ops::AddAssign,
    path::Path,
    time::Duration,
};

use sfu::MediaKind;

use crate::{
    fmp4::{self, AUDIO_TIMESCALE, AudioFormat, Sample, VIDEO_TIMESCALE, VideoFormat},
    pipeline::Frame,
};

/// A file being written. After each fragment everything before it can be played whatever happens.
#[derive(Debug)]
pub(super) struct RecordFile {
    file: File,
    /// Where its time starts.
    base: Duration,
    format: Option<VideoFormat>,
    has_audio: bool,
    fragments: u32,
    bytes: u64,
    /// Where the open fragment starts.
    since: Duration,
    /// The newest frame.
    until: Duration,
    /// Of the open fragment; the last one lasts until the next frame.
    video: Vec<Sample>,
    audio: Vec<Sample>,
    /// Where the next AAC frame starts if sound is continuous.
    next_audio: u64,
}

/// What has reached the file.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Written {
    pub(super) bytes: u64,
    /// Pictures.
    pub(super) frames: usize,
    /// The newest frame among them.
    pub(super) until: Duration,
}

impl AddAssign for Written {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.frames += other.frames;
        self.until = self.until.max(other.until);
    }
}

impl RecordFile {
    /// Creates a file whose time starts at `base`.
    pub(super) fn create(
        path: &Path,
        base: Duration,
        video: Option<&VideoFormat>,
        audio: Option<&AudioFormat>,
    ) -> io::Result<Self> {
        let init = fmp4::init(video, audio).map_err(io::Error::other)?;
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        file.write_all(&init)?;
        Ok(Self {
            file,
            base,
            format: video.cloned(),
            has_audio: audio.is_some(),
            fragments: 0,
            bytes: init.len() as u64,
            since: base,
            until: base,
            video: Vec::new(),
            audio: Vec::new(),
            next_audio: 0,
        })
    }

    pub(super) fn base(&self) -> Duration {
        self.base
    }

    /// Returns how many bytes the file has.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn has_audio(&self) -> bool {
        self.has_audio
    }

    pub(super) fn is_in(&self, format: &VideoFormat) -> bool {
        self.format.as_ref() == Some(format)
    }

    /// Takes in a frame, not older than the one before, and writes a fragment if that is long enough.
    pub(super) fn push(&mut self, frame: &Frame) -> io::Result<Written> {
        let mut written = Written::default();
        if frame.time >= self.since + FRAGMENT {
            written += self.flush()?;
            self.since = frame.time;
        }
        match frame.kind {
            MediaKind::Video if self.format.is_some() => self.push_video(frame),
            MediaKind::Audio if self.has_audio => written += self.push_audio(frame)?,
            MediaKind::Video | MediaKind::Audio => return Ok(written),
        }
        self.until = frame.time;
        Ok(written)
    }

    fn push_video(&mut self, frame: &Frame) {
        let time = self.ticks(frame.time, VIDEO_TIMESCALE);
        self.end_last_picture(time);
        self.video.push(Sample {
            time,
            duration: 0,
            keyframe: frame.keyframe,
            data: frame.data(),
        });
    }

    fn end_last_picture(&mut self, end: u64) {
        if let Some(last) = self.video.last_mut() {
            let duration = end.saturating_sub(last.time).max(1);
            last.duration = u32::try_from(duration).unwrap_or(u32::MAX);
        }
    }

    fn push_audio(&mut self, frame: &Frame) -> io::Result<Written> {
        let mut written = Written::default();
        let exact = self.ticks(frame.time, AUDIO_TIMESCALE);
        let frame_length = u64::from(AAC_FRAME);
        let is_first = self.next_audio == 0;
        // Rounding must not leave holes of one sample.
        let time = if exact.abs_diff(self.next_audio) < frame_length / 2 && !is_first {
            self.next_audio
        } else if exact < self.next_audio {
            return Ok(written);
        } else {
            // The samples of a fragment are consecutive.
            if !self.audio.is_empty() {
                written = self.flush()?;
            }
            exact
        };
        self.next_audio = time + frame_length;
        self.audio.push(Sample {
            time,
            duration: AAC_FRAME,
            keyframe: true,
            data: frame.data(),
        });
        Ok(written)
    }

    /// Writes all but the last picture, whose length is not known yet.
    fn flush(&mut self) -> io::Result<Written> {
        let last = self.video.pop();
        let written = self.write();
        self.video.extend(last);
        written
    }

    fn write(&mut self) -> io::Result<Written> {
        if self.video.is_empty() && self.audio.is_empty() {
            return Ok(Written::default());
        }
        self.fragments += 1;
        let mut bytes = Vec::new();
        fmp4::fragment(self.fragments, &self.video, &self.audio, &mut bytes)
            .map_err(io::Error::other)?;
        if let Err(error) = self.file.write_all(&bytes) {
            // What is there of the fragment is of no use, and the disk may be full.
            let _ = self.file.set_len(self.bytes);
            return Err(error);
        }
        self.bytes += bytes.len() as u64;
        let frames = self.video.len();
        self.video.clear();
        self.audio.clear();
        Ok(Written {
            bytes: bytes.len() as u64,
            frames,
            until: self.until,
        })
    }

    /// Writes the rest. The last picture lasts until `end`.
    pub(super) fn close(mut self, end: Option<Duration>) -> io::Result<Written> {
        let end = end.unwrap_or(self.until + LAST_PICTURE);
        let end = self.ticks(end, VIDEO_TIMESCALE);
        self.end_last_picture(end);
        let written = self.write()?;
        self.file.sync_data()?;
        Ok(written)
    }

    fn ticks(&self, time: Duration, timescale: u32) -> u64 {
        let time = time.saturating_sub(self.base);
        let rate = u64::from(timescale);
        let nanos = u64::from(time.subsec_nanos()) * rate + 500_000_000;
        time.as_secs() * rate + nanos / 1_000_000_000
    }
}

/// What a crash may lose, besides what is on its way.
const FRAGMENT: Duration = Duration::from_millis(500);
/// How long a picture lasts that none follows.
const LAST_PICTURE: Duration = Duration::from_millis(33);
const AAC_FRAME: u32 = 1024;
