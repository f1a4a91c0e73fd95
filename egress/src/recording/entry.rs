//! What the library keeps of one recording, beside its files.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::cast::{Cast, Role};
use crate::status::{FailureCode, RecordingState, StorageTrouble};

/// A recording's record: `recording.json` in its folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) id: String,
    pub(crate) room: u64,
    pub(crate) slug: String,
    pub(crate) started_at_ms: u64,
    pub(crate) phase: Phase,
    /// Why it ended.
    pub(crate) code: Option<FailureCode>,
    pub(crate) poster: bool,
    pub(crate) files: Vec<Finished>,
    /// Whose tracks were recorded apart, by the names of their folders.
    #[serde(default)]
    pub(crate) cast: Vec<(String, Cast)>,
    /// What has been recorded of the next file.
    #[serde(skip)]
    pub(crate) growing: Growing,
    /// Why its files do not get to the storage.
    #[serde(skip)]
    pub(crate) trouble: Option<StorageTrouble>,
}

/// How far a recording is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// A job writes it, or will after a restart.
    Open,
    /// Nothing more will be written; there is work left.
    Ended,
    /// Everything is done.
    Done,
}

/// A finished file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Finished {
    pub(crate) name: String,
    pub(crate) started_at_ms: u64,
    pub(crate) duration_ms: u64,
    pub(crate) bytes: u64,
    /// Bytes before its media.
    #[serde(default)]
    pub(crate) head: u64,
    pub(crate) size: Option<(u16, u16)>,
    pub(crate) sprite: bool,
    /// The last fragmented file in it: that one and those before may go.
    pub(crate) made_of: u32,
    pub(crate) place: Place,
    /// The track that it is of; `None` for the programme.
    #[serde(default)]
    pub(crate) role: Option<Role>,
}

/// Where a finished file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Place {
    /// Here, for good.
    Local,
    /// Here, until it is in the storage.
    Uploading,
    /// In the storage.
    Remote,
    /// Here and in the storage, for good.
    Both,
}

/// A file that is being recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Growing {
    pub(crate) duration_ms: u64,
    pub(crate) bytes: u64,
    pub(crate) size: Option<(u16, u16)>,
}

impl Entry {
    /// Reads the record in `folder`.
    pub(crate) fn load(folder: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&fs::read(folder.join(NAME))?)?)
    }

    /// Writes the record. A crash leaves the old or the new one.
    pub(crate) fn save(&self, folder: &Path) -> io::Result<()> {
        let unfinished = folder.join("recording.json.new");
        let mut file = File::create(&unfinished)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.sync_all()?;
        fs::rename(&unfinished, folder.join(NAME))?;
        File::open(folder)?.sync_all()
    }

    pub(crate) fn state(&self) -> RecordingState {
        let uploading = |file: &Finished| file.place == Place::Uploading;
        match self.phase {
            Phase::Open => RecordingState::Recording,
            Phase::Ended if self.files.iter().any(uploading) => RecordingState::Uploading,
            Phase::Ended => RecordingState::Finishing,
            Phase::Done if self.files.is_empty() => RecordingState::Failed,
            Phase::Done => RecordingState::Ready,
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        let files = self.files.iter().map(|file| file.bytes);
        files.sum::<u64>() + self.growing.bytes
    }

    /// Returns the files of the programme, the oldest first.
    pub(crate) fn program(&self) -> impl Iterator<Item = &Finished> {
        self.files.iter().filter(|file| file.role.is_none())
    }

    /// Returns the name of the programme's next file.
    pub(crate) fn next_name(&self) -> String {
        format!("{}-{:03}.mp4", self.id, self.program().count() + 1)
    }

    /// Returns the name of a track's next file.
    pub(crate) fn next_name_of(&self, role: &Role) -> String {
        let label = role.label();
        let tracks = self.files.iter().filter_map(|file| file.role.as_ref());
        let number = tracks.filter(|other| other.label() == label).count() + 1;
        format!("{}-{label}-{number:03}.mp4", self.id)
    }

    /// Returns how many bytes of it are on this machine's disk.
    pub(crate) fn bytes_here(&self) -> u64 {
        let here = self.files.iter().filter(|file| file.place != Place::Remote);
        here.map(|file| file.bytes).sum::<u64>() + self.growing.bytes
    }

    pub(crate) fn duration_ms(&self) -> u64 {
        let files = self.program().map(|file| file.duration_ms);
        files.sum::<u64>() + self.growing.duration_ms
    }

    pub(crate) fn size(&self) -> Option<(u16, u16)> {
        let mut files = self.program();
        files.find_map(|file| file.size).or(self.growing.size)
    }
}

const NAME: &str = "recording.json";
